//! Records to try a store with. The same number gives the same record.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use inborn_identity::{
    AccessKeyId, AccessKeyKind, AccountId, HostId, InstanceId, MetadataOptions, Region, UnixTime, Zone,
};

use crate::{
    AgentReport, Attachment, Change, ChangeRequest, Command, CommandChange, CommandProgress, CommandState, CommandStep,
    Detector, DetectorChange, DetectorPart, Document, EpochState, Finding, HostJoin, HostKeyBasis, HostKeySet,
    HostKeys, Instance, InstanceState, InventoryKind, InventoryRecord, Invocation, InvocationChange, InvocationState,
    JoinToken, KeyPair, KeyType, LaunchRequest, NodeId, Operator, OwnMac, PartChange, PartKind, Sealed, SealedEpoch,
    SentCommand, Session, SessionEnd, StateReason, UserData,
};

/// When the samples were launched: 2026-01-01T00:00:00Z.
pub const LAUNCHED_AT: UnixTime = UnixTime::from_secs(1_767_225_600);

/// The account of the samples.
#[must_use]
pub fn account() -> AccountId {
    AccountId::new(123_456_789_012).unwrap()
}

/// Another account, with leading zeros.
#[must_use]
pub fn other_account() -> AccountId {
    AccountId::new(42).unwrap()
}

/// Instance id number `number`; they are ordered as their numbers are.
#[must_use]
pub fn id(number: u32) -> InstanceId {
    let [a, b, c, d] = number.to_be_bytes();
    InstanceId::from_bytes([0, 0xfe, 0, a, b, c, d, 0, 1])
}

/// Another one of each number, spread over all there are, as those that are drawn.
#[must_use]
pub fn spread_id(number: u32) -> InstanceId {
    let [a, b, c, d, e, f, g, h] = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    InstanceId::from_bytes([a, b, c, d, e, f, g, h, 7])
}

/// A zone of us-east-1.
#[must_use]
pub fn zone() -> Zone {
    let region: Region = "us-east-1".parse().unwrap();
    Zone::new(&region, 'a').unwrap()
}

/// A running instance with everything optional absent.
#[must_use]
pub fn bare(number: u32) -> Instance {
    Instance {
        id: id(number),
        account: account(),
        zone: zone(),
        image_id: "ami-0123456789abcdef0".into(),
        instance_type: "t3.micro".into(),
        private_address: Ipv4Addr::new(10, 0, 0, 7),
        ipv6_address: None,
        placement_group: None,
        placement_partition: None,
        state: InstanceState::Running,
        launch_time: LAUNCHED_AT,
        boot_time: LAUNCHED_AT,
        boot_generation: 1,
        terminated_at: None,
        state_reason: None,
        metadata_options: MetadataOptions::default(),
        key_name: None,
        public_key: None,
        user_data: None,
        ami_launch_index: 0,
        reservation_id: format!("r-{number:017x}"),
        client_token: None,
        tags: BTreeMap::new(),
        lease: false,
        host: None,
        attachment: None,
        mac: None,
    }
}

/// A running instance with everything optional present, and texts that a careless store would mangle.
#[must_use]
pub fn full(number: u32) -> Instance {
    let tags = [("Name", "web 1"), ("", ""), ("quote'\"", "; DROP TABLE instances; --"), ("snow☃", "\u{0}nul")];
    Instance {
        key_name: Some("key ☃".into()),
        public_key: Some("ssh-ed25519 AAAA key ☃".into()),
        ipv6_address: Some("fd00:1::5".parse().unwrap()),
        placement_group: Some("group ☃".into()),
        placement_partition: Some(u32::MAX),
        user_data: Some(UserData::new((0..=255).collect()).unwrap()),
        state_reason: Some(StateReason { code: "Server.Test".into(), message: "because 'so'".into() }),
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        lease: true,
        attachment: Some(Attachment::LoopbackPort(u16::try_from(number).unwrap_or(0))),
        mac: Some(OwnMac::Told("02:00:5e:00:53:ff".parse().unwrap())),
        boot_generation: u32::MAX - 7,
        boot_time: UnixTime::MAX,
        metadata_options: MetadataOptions { hop_limit: 64, ipv6: true, tags: true, ..MetadataOptions::default() },
        ..bare(number)
    }
}

/// A launch of these instances together, by the first's account, without a token.
#[must_use]
pub fn launch(instances: Vec<Instance>) -> LaunchRequest {
    let first = &instances[0];
    let (account, reservation_id) = (first.account, first.reservation_id.clone());
    let instances = instances
        .into_iter()
        .zip(0..)
        .map(|(instance, ami_launch_index)| Instance {
            ami_launch_index,
            reservation_id: reservation_id.clone(),
            ..instance
        })
        .collect();
    LaunchRequest { account, client_token: None, fingerprint: [0; 32], reservation_id, instances }
}

/// A launch with a client token, whose parameters are those of `fingerprint`.
#[must_use]
pub fn launch_with_token(instances: Vec<Instance>, token: &str, fingerprint: u8) -> LaunchRequest {
    let mut request = launch(instances);
    for instance in &mut request.instances {
        instance.client_token = Some(token.to_owned());
    }
    LaunchRequest { client_token: Some(token.to_owned()), fingerprint: [fingerprint; 32], ..request }
}

/// A change to instances of the account of the samples.
#[must_use]
pub fn change(numbers: &[u32], change: Change) -> ChangeRequest {
    ChangeRequest { account: account(), instances: numbers.iter().copied().map(id).collect(), change }
}

/// Terminate, `seconds` after the launch.
#[must_use]
pub fn terminate(seconds: u64) -> Change {
    let reason = StateReason { code: "Client.UserInitiatedShutdown".into(), message: "asked to".into() };
    Change::Terminate { at: LAUNCHED_AT.plus(seconds), reason: Some(reason) }
}

/// Stop, `seconds` after the launch.
#[must_use]
pub fn stop(seconds: u64) -> Change {
    Change::Stop { at: LAUNCHED_AT.plus(seconds), reason: None, cut_off: false }
}

/// Start, `seconds` after the launch.
#[must_use]
pub fn start(seconds: u64) -> Change {
    Change::Start { at: LAUNCHED_AT.plus(seconds), cut_off: false }
}

/// Reboot, `seconds` after the launch.
#[must_use]
pub fn reboot(seconds: u64) -> Change {
    Change::Reboot { at: LAUNCHED_AT.plus(seconds), cut_off: false }
}

/// Operator number `number`.
#[must_use]
pub fn operator(number: u8) -> Operator {
    Operator {
        access_key_id: AccessKeyId::new(AccessKeyKind::LongLived, account(), u64::from(number)),
        secret: Sealed::new(vec![number; 60]),
        name: format!("operator-{number}"),
        user_id: format!("AIDA{number:017}"),
        account: account(),
        created_at: LAUNCHED_AT.plus(u64::from(number)),
        disabled: false,
    }
}

/// Id of host number `number`; they are ordered as their numbers are.
#[must_use]
pub fn host_id(number: u8) -> HostId {
    HostId::from_bytes([0, 0xfe, 0, 0, 0, 0, 0, 0, number])
}

/// Join token number `number`, which ends so many seconds after the launch.
#[must_use]
pub fn join_token(number: u8, seconds: u64) -> JoinToken {
    JoinToken {
        digest: [number; 32],
        accounts: [account()].into(),
        created_at: LAUNCHED_AT,
        expires_at: LAUNCHED_AT.plus(seconds),
    }
}

/// Host number `number` joins with token number `token`, so many seconds after the launch.
#[must_use]
pub fn host_join(token: u8, number: u8, seconds: u64) -> HostJoin {
    HostJoin {
        digest: [token; 32],
        id: host_id(number),
        name: format!("host ☃ {number}"),
        public_key: vec![number; 65],
        at: LAUNCHED_AT.plus(seconds),
    }
}

/// Key pair number `number`.
#[must_use]
pub fn key_pair(number: u8) -> KeyPair {
    KeyPair {
        account: account(),
        name: format!("key {number} ☃"),
        id: format!("key-{number:017x}"),
        key_type: if number.is_multiple_of(2) { KeyType::Rsa } else { KeyType::Ed25519 },
        fingerprint: format!("{number:02x}:00"),
        public_key: format!("ssh-ed25519 AAAA{number} key"),
        created_at: LAUNCHED_AT.plus(u64::from(number)),
        tags: (0..number % 3).map(|tag| (format!("tag {tag}"), "quote'\"".to_owned())).collect(),
    }
}

/// Epoch number `id`.
#[must_use]
pub fn epoch(id: u32, state: EpochState) -> SealedEpoch {
    SealedEpoch {
        id,
        blob: Sealed::new(id.to_be_bytes().repeat(9)),
        created_at: LAUNCHED_AT,
        state,
        seals_from: None,
        ended_at: None,
        revoked: false,
    }
}

/// Record number `number` of host keys, with a set in every place.
#[must_use]
pub fn host_keys(number: u8) -> HostKeys {
    let set = |name: &str, basis, proven| HostKeySet {
        lines: vec![format!("ssh-ed25519 AAAA{number}{name} root ☃"), format!("ssh-rsa AAAA{number}{name}")],
        basis,
        proven,
        first_seen: LAUNCHED_AT.plus(u64::from(number)),
        last_seen: LAUNCHED_AT.plus(u64::from(number) + 5),
        boot_generation: u32::MAX - u32::from(number),
        access_key_id: format!("ASIA{number}"),
        source_address: "10.0.0.7".into(),
    };
    HostKeys {
        proofs_until: LAUNCHED_AT.plus(u64::from(number) + 1),
        current: Some(set("current", HostKeyBasis::OldKey, true)),
        pending: Some(set("pending", HostKeyBasis::Offered, false)),
        past: vec![set("before", HostKeyBasis::FreshBoot, false), set("first", HostKeyBasis::First, true)],
    }
}

/// A document.
#[must_use]
pub fn document(name: &str, number: u32) -> Document {
    Document {
        account: account(),
        name: name.to_owned(),
        created_at: LAUNCHED_AT.plus(u64::from(number)),
        display_name: "für Maschinen".into(),
        version_name: "one".into(),
        target_type: "/AWS::EC2::Instance".into(),
        content: format!("{{\"it's\": \"☃ {number}\"}}"),
    }
}

/// A command for no machine yet.
#[must_use]
pub fn command(number: u32, seconds: u64) -> Command {
    Command {
        id: format!("{number:08x}-0000-4000-8000-000000000000"),
        account: account(),
        requested_at: LAUNCHED_AT.plus(seconds),
        document_name: "AWS-RunShellScript".into(),
        parameters: r#"{"commands":["echo 'é'"]}"#.into(),
        targets: "[]".into(),
        comment: "because".into(),
        delivery_seconds: 3600,
        execution_seconds: 172_800,
        concurrency_max: "50".into(),
        errors_max: "10%".into(),
        progress: CommandProgress {
            state: CommandState::Pending,
            targets: 0,
            completed: 0,
            errors: 0,
            delivery_timed_out: 0,
        },
    }
}

/// A command on one machine, with so many steps.
#[must_use]
pub fn invocation(number: u32, machine: u32, state: InvocationState, steps: usize) -> Invocation {
    let step = |place| CommandStep {
        name: format!("step{place}"),
        status: "Success".into(),
        code: -1,
        started: "2026-01-01T00:00:00.000Z".into(),
        finished: "2026-01-01T00:00:01.000Z".into(),
        output: "é".into(),
        standard_output: "é\n".into(),
        standard_error: "'".into(),
    };
    Invocation {
        command: command(number, 0).id,
        instance: id(machine),
        instance_name: "web".into(),
        state,
        acknowledged_at: (state != InvocationState::Pending).then_some(LAUNCHED_AT.plus(1)),
        trace: "traced".into(),
        steps: (0..steps).map(step).collect(),
    }
}

/// A change of a command that is for all machines at once, and may fail on none: before and after on each.
#[must_use]
pub fn command_change(number: u32, invocations: Vec<(Invocation, Invocation)>) -> CommandChange {
    let change = |(before, after): (Invocation, Invocation)| InvocationChange::new(&before, after);
    CommandChange {
        command: command(number, 0).id,
        is_cancelled: false,
        claims: false,
        concurrency_max: 50,
        errors_max: 0,
        invocations: invocations.into_iter().map(change).collect(),
    }
}

/// A command that waits for machines.
#[must_use]
pub fn sent(number: u32, seconds: u64, machines: &[u32]) -> SentCommand {
    let mut command = command(number, seconds);
    command.progress.targets = u32::try_from(machines.len()).unwrap();
    let pending = |machine: &u32| invocation(number, *machine, InvocationState::Pending, 0);
    SentCommand { command, content: "{}".into(), invocations: machines.iter().map(pending).collect() }
}
/// Inventory of type number `number`, as collected for the time number `version`.
#[must_use]
pub fn inventory_record(kind: InventoryKind, number: u8, version: u8) -> InventoryRecord {
    InventoryRecord {
        kind,
        type_name: format!("AWS:é'{number}"),
        schema_version: "1.0".into(),
        captured_at: format!("2026-01-01T00:00:0{}Z", version % 10),
        content_hash: format!("hash {version}"),
        context: r#"{"a":"b"}"#.into(),
        content: format!(r#"[{{"Name":"☃ {version}"}}]"#),
        received_at: LAUNCHED_AT.plus(u64::from(version)),
    }
}

/// A session that is open, started so many seconds after the launch.
#[must_use]
pub fn session(number: u32, seconds: u64) -> Session {
    Session {
        id: format!("operator-{number:017x}"),
        account: account(),
        instance: id(number),
        owner: "arn:aws:iam::123456789012:user/operator".into(),
        document_name: "SSM-SessionManagerRunShell".into(),
        reason: "'é".into(),
        started_at: LAUNCHED_AT.plus(seconds),
        end: None,
        carrier: Some(NodeId::new(7)),
    }
}

/// The end of a session, so many seconds after the launch.
#[must_use]
pub fn ended(seconds: u64) -> SessionEnd {
    SessionEnd { at: LAUNCHED_AT.plus(seconds), status: "Terminated".into(), details: "by é".into() }
}

/// Detector number `number`, of the account or of another.
#[must_use]
pub fn detector(number: u8, account: AccountId) -> Detector {
    Detector {
        id: format!("{number:032x}"),
        account,
        created_at: LAUNCHED_AT,
        updated_at: LAUNCHED_AT.plus(u64::from(number)),
        document: r#"{"status":"ENABLED","é":"'"}"#.into(),
    }
}

/// Part number `number` of a detector, as it is said for the time number `version`.
#[must_use]
pub fn detector_part(detector: u8, kind: PartKind, number: u8, version: u8) -> DetectorPart {
    DetectorPart {
        detector: format!("{detector:032x}"),
        kind,
        id: format!("part é {number}"),
        document: format!(r#"{{"version":{version}}}"#),
    }
}

/// The change by which a part of a detector is set, decided by that detector as it is.
#[must_use]
pub fn part_change(detector: Detector, part: DetectorPart) -> DetectorChange {
    let part = PartChange { kind: part.kind, id: part.id, document: Some(part.document) };
    DetectorChange { expected: Some(detector.document.clone()), detector, part: Some(part) }
}

/// Finding number `number` of a detector, changed so many seconds after the launch.
#[must_use]
pub fn finding(detector: u8, number: u8, seconds: u8) -> Finding {
    Finding {
        id: format!("finding-{number}"),
        detector: format!("{detector:032x}"),
        key: format!("key-{}", number % 3),
        kind: "Execution:Runtime/ReverseShell".into(),
        severity_tenths: 80,
        created_at: LAUNCHED_AT,
        updated_at: LAUNCHED_AT.plus(u64::from(seconds)),
        is_archived: number % 2 == 1,
        instance: (number > 1).then(|| id(number.into())),
        count: u64::from(seconds) + 1,
        document: r#"{"title":"'☃"}"#.into(),
    }
}

/// The agent of machine number `number`, heard last so many seconds after the launch.
#[must_use]
pub fn agent_report(number: u8, seconds: u8) -> AgentReport {
    AgentReport {
        instance: id(number.into()),
        agent_name: "inborn-sensor é".into(),
        agent_version: format!("1.{seconds}"),
        first_at: LAUNCHED_AT,
        last_at: LAUNCHED_AT.plus(u64::from(seconds)),
    }
}
