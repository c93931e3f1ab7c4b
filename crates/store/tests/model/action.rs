//! What is done to a store, by chance.

use super::*;

/// What is done to both.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Launch { numbers: Vec<u8>, other: bool, token: Option<u8>, fingerprint: u8, port: Option<u8>, host: Option<u8> },
    Change { numbers: Vec<u8>, other: bool, change: Change },
    Purge(u8),
    JoinToken { number: u8, seconds: u8 },
    JoinHost { token: u8, number: u8, seconds: u8 },
    ChangeHost { number: u8, change: HostChange },
    ForgetJoinTokens(u8),
    Operator(u8),
    Epoch(u8),
    KeyPair(u8),
    ForgetKeyPair { number: u8, other: bool },
    CutOff(RecordedCutOff),
    Forget(u8),
    HostKeys { number: u8, revision: u8, keys: u8 },
    Setting { name: u8, expected: Option<u8>, value: u8 },
    Inventory { number: u8, kind: InventoryKind, types: u8, version: u8, is_new: bool },
    ForgetInventory(u8),
    Page { whose: Option<bool>, after: Option<u8>, limit: u8 },
    Document { number: u8, is_there: bool },
    Send { number: u8, seconds: u8, machines: Vec<u8> },
    Progress { number: u8, machine: u8, state: InvocationState, overall: CommandState },
    ForgetCommands { seconds: u8, invocations_max: u8 },
    Commands { machine: Option<u8>, after: Option<(u8, u8)>, limit: u8 },
    Session { number: u8, seconds: u8 },
    EndSession { number: u8, seconds: u8 },
    ForgetSessions { seconds: u8, sessions_max: u8 },
    Sessions { has_ended: bool, after: Option<(u8, u8)>, limit: u8 },
    Detector { number: u8, other: bool, version: u8, is_known: bool },
    DeleteDetector(u8),
    Part { detector: u8, kind: PartKind, number: u8, version: Option<u8>, is_known: bool },
    Findings { detector: u8, all: Vec<(u8, u8)> },
    ForgetFindings { seconds: u8, findings_max: u8 },
    FindingPage { detector: u8, key: Option<u8>, after: Option<(u8, u8)>, limit: u8 },
    AgentReport { number: u8, seconds: u8 },
    Reopen,
}

pub(crate) fn at(seconds: u8) -> UnixTime {
    LAUNCHED_AT.plus(u64::from(seconds))
}

pub(crate) fn whose(other: bool) -> AccountId {
    if other { other_account() } else { account() }
}

/// Few numbers, so that actions meet.
pub(crate) fn number() -> impl Strategy<Value = u8> {
    0..10u8
}

pub(crate) fn numbers() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(number(), 1..4)
}

pub(crate) fn word() -> impl Strategy<Value = String> {
    "[ab]?"
}

pub(crate) fn place() -> impl Strategy<Value = Attachment> {
    let mark = || prop::option::of("[ab]");
    prop_oneof![
        ("/[a b]?", mark()).prop_map(|(path, mark)| Attachment::Namespace { path, mark }),
        (0..2u32, "[ab]").prop_map(|(pid, mark)| Attachment::Process { pid, mark }),
        ("[ab]", mark()).prop_map(|(name, mark)| Attachment::Interface { name, mark }),
        (0..2u32).prop_map(Attachment::Vsock),
    ]
}

pub(crate) fn mac() -> impl Strategy<Value = Option<OwnMac>> {
    let mac = |last| MacAddress::local([0, 0, 0, 0, last]);
    prop::option::of(prop_oneof![
        (0..2u8).prop_map(move |last| OwnMac::Found(mac(last))),
        (0..2u8).prop_map(move |last| OwnMac::Told(mac(last))),
    ])
}

pub(crate) fn kind() -> impl Strategy<Value = InventoryKind> {
    prop_oneof![Just(InventoryKind::Item), Just(InventoryKind::Compliance)]
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let removal = (word(), prop::option::of(word())).prop_map(|(key, value)| TagRemoval { key, value });
    prop_oneof![
        (any::<u8>(), any::<bool>()).prop_map(|(s, cut_off)| Change::Stop { at: at(s), reason: None, cut_off }),
        (any::<u8>(), any::<bool>()).prop_map(|(s, cut_off)| Change::Start { at: at(s), cut_off }),
        (any::<u8>(), any::<bool>()).prop_map(|(s, cut_off)| Change::Reboot { at: at(s), cut_off }),
        any::<u8>().prop_map(|s| Change::Terminate { at: at(s), reason: None }),
        (prop::collection::btree_map(word(), word(), 0..3), prop::collection::vec(removal, 0..3))
            .prop_map(|(set, remove)| Change::Tags { set, remove }),
        (0..4u16).prop_map(|port| Change::Attach(Attachment::LoopbackPort(port), None)),
        (place(), mac()).prop_map(|(place, mac)| Change::Attach(place, mac)),
        Just(Change::Detach),
        prop::option::of(any::<[u8; 2]>())
            .prop_map(|data| Change::UserData(data.map(|bytes| UserData::new(bytes.into()).unwrap()))),
    ]
}

pub(crate) fn cut_off() -> impl Strategy<Value = RecordedCutOff> {
    let instance = || number().prop_map(|number| id(number.into()));
    let scope = prop_oneof![
        instance().prop_map(CutOffScope::Instance),
        any::<bool>().prop_map(|other| CutOffScope::Account(whose(other))),
        Just(CutOffScope::All),
    ];
    let cut_off = prop_oneof![
        instance().prop_map(|instance| CutOff::Dead { instance }),
        (instance(), any::<u32>()).prop_map(|(instance, below)| CutOff::OlderBoot { instance, below }),
        (scope, any::<u8>()).prop_map(|(scope, before)| CutOff::IssuedBefore { scope, before: at(before) }),
    ];
    (cut_off, any::<u8>()).prop_map(|(cut_off, made)| RecordedCutOff { cut_off, at: at(made) })
}

pub(crate) fn host_change() -> impl Strategy<Value = HostChange> {
    let seen = (0..4u8).prop_map(|seconds| HostChange::Seen(at(seconds)));
    prop_oneof![3 => seen, 1 => Just(HostChange::Drain), 1 => Just(HostChange::Evict)]
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    let token = prop::option::of(0..3u8);
    let host = prop::option::weighted(0.3, 0..2u8);
    prop_oneof![
        6 => (numbers(), any::<bool>(), token, 0..2u8, prop::option::weighted(0.3, 0..4u8), host).prop_map(
            |(numbers, other, token, fingerprint, port, host)| {
                Action::Launch { numbers, other, token, fingerprint, port, host }
            }
        ),
        8 => (numbers(), prop::bool::weighted(0.2), change())
            .prop_map(|(numbers, other, change)| Action::Change { numbers, other, change }),
        2 => any::<u8>().prop_map(Action::Purge),
        3 => (0..3u8, 0..4u8).prop_map(|(number, seconds)| Action::JoinToken { number, seconds }),
        3 => (0..3u8, 0..2u8, 0..4u8).prop_map(|(token, number, seconds)| Action::JoinHost { token, number, seconds }),
        2 => (0..2u8, host_change()).prop_map(|(number, change)| Action::ChangeHost { number, change }),
        1 => (0..5u8).prop_map(Action::ForgetJoinTokens),
        1 => (0..4u8).prop_map(Action::Operator),
        1 => (0..4u8).prop_map(Action::Epoch),
        2 => (0..4u8).prop_map(Action::KeyPair),
        1 => (0..4u8, prop::bool::weighted(0.2)).prop_map(|(number, other)| Action::ForgetKeyPair { number, other }),
        2 => cut_off().prop_map(Action::CutOff),
        1 => any::<u8>().prop_map(Action::Forget),
        2 => (number(), 0..3u8, 0..3u8).prop_map(|(number, revision, keys)| Action::HostKeys { number, revision, keys }),
        1 => (0..2u8, prop::option::of(0..2u8), 0..2u8)
            .prop_map(|(name, expected, value)| Action::Setting { name, expected, value }),
        3 => (number(), kind(), 0..3u8, 0..3u8, any::<bool>()).prop_map(
            |(number, kind, types, version, is_new)| Action::Inventory { number, kind, types, version, is_new }
        ),
        1 => (0..4u8).prop_map(Action::ForgetInventory),
        2 => (prop::option::of(any::<bool>()), prop::option::of(number()), 1..5u8)
            .prop_map(|(whose, after, limit)| Action::Page { whose, after, limit }),
        2 => (0..4u8, any::<bool>()).prop_map(|(number, is_there)| Action::Document { number, is_there }),
        3 => (0..6u8, 0..4u8, prop::collection::btree_set(number(), 0..4)).prop_map(|(number, seconds, machines)| {
            Action::Send { number, seconds, machines: machines.into_iter().collect() }
        }),
        4 => (0..6u8, number(), prop::sample::select(InvocationState::ALL), prop::sample::select(CommandState::ALL))
            .prop_map(|(number, machine, state, overall)| Action::Progress { number, machine, state, overall }),
        1 => (0..5u8, 0..8u8)
            .prop_map(|(seconds, invocations_max)| Action::ForgetCommands { seconds, invocations_max }),
        2 => (prop::option::of(number()), prop::option::of((0..4u8, 0..6u8)), 1..5u8)
            .prop_map(|(machine, after, limit)| Action::Commands { machine, after, limit }),
        3 => (0..6u8, 0..4u8).prop_map(|(number, seconds)| Action::Session { number, seconds }),
        2 => (0..6u8, 0..4u8).prop_map(|(number, seconds)| Action::EndSession { number, seconds }),
        1 => (0..5u8, 0..4u8).prop_map(|(seconds, sessions_max)| Action::ForgetSessions { seconds, sessions_max }),
        2 => (any::<bool>(), prop::option::of((0..4u8, 0..6u8)), 1..5u8)
            .prop_map(|(has_ended, after, limit)| Action::Sessions { has_ended, after, limit }),
        3 => (0..3u8, any::<bool>(), 0..3u8, prop::bool::weighted(0.8))
            .prop_map(|(number, other, version, is_known)| Action::Detector { number, other, version, is_known }),
        1 => (0..3u8).prop_map(Action::DeleteDetector),
        3 => (
            0..3u8,
            prop::sample::select(&PartKind::ALL[..]),
            0..2u8,
            prop::option::weighted(0.7, 0..3u8),
            prop::bool::weighted(0.8)
        )
            .prop_map(|(detector, kind, number, version, is_known)| {
                Action::Part { detector, kind, number, version, is_known }
            }),
        4 => (0..3u8, prop::collection::vec((0..6u8, 0..4u8), 0..3))
            .prop_map(|(detector, all)| Action::Findings { detector, all }),
        1 => (0..5u8, 0..4u8).prop_map(|(seconds, findings_max)| Action::ForgetFindings { seconds, findings_max }),
        2 => (0..3u8, prop::option::of(0..3u8), prop::option::of((0..4u8, 0..6u8)), 1..5u8)
            .prop_map(|(detector, key, after, limit)| Action::FindingPage { detector, key, after, limit }),
        2 => (number(), 0..4u8).prop_map(|(number, seconds)| Action::AgentReport { number, seconds }),
        1 => Just(Action::Reopen),
    ]
}

pub(crate) fn launch_request(numbers: &[u8], other: bool, token: Option<u8>, fingerprint: u8) -> LaunchRequest {
    let mut instances: Vec<_> =
        numbers.iter().map(|n| Instance { account: whose(other), ..bare((*n).into()) }).collect();
    // Reservations are never used twice, as random ids are not.
    let reservation = RESERVATIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    instances[0].reservation_id = format!("r-{reservation:017x}");
    match token {
        Some(token) => launch_with_token(instances, &format!("token-{token}"), fingerprint),
        None => launch(instances),
    }
}

static RESERVATIONS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
