use super::*;

const ID: &str = "i-0123456789abcdef0";
const OTHER: &str = "i-0fedcba9876543210";

fn line(time: &str, principal: &str, event: &str, more: &str) -> String {
    format!(
        r#"{{"userIdentity":{{{principal}}},"eventTime":"{time}","eventSource":"ec2.amazonaws.com","eventName":"{event}","sourceIPAddress":"192.168.100.200"{more}}}"#
    )
}

fn session(id: &str) -> String {
    format!(r#""type":"AssumedRole","principalId":"123456789012:aws:ec2-instance:{id}""#)
}

const OPERATOR: &str = r#""type":"IAMUser","principalId":"AIDA","userName":"operator""#;

/// A directory with these lines as its current file, and what is shown of them.
struct Rig(tempfile::TempDir);

impl Rig {
    fn new(lines: &[String]) -> Self {
        let rig = Self(tempfile::tempdir().unwrap());
        std::fs::write(rig.path(), lines.join("\n")).unwrap();
        rig
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join(AUDIT_FILE)
    }

    fn show(&self, since: u64, instances: Option<&[&str]>, output: Output) -> (String, u64) {
        let since = UnixTime::from_secs(since);
        let instances = instances.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
        let mut printer = Printer::new(Vec::new(), output);
        let mut notes = Notes::default();
        let reader = open(&self.path(), since, false).unwrap();
        show(reader, &Filter { since, instances }, &mut printer, &mut notes, || false).unwrap();
        (String::from_utf8(printer.out).unwrap(), notes.0)
    }
}

#[test]
fn a_table_names_each_day_once_and_each_result_in_full() {
    let denied = r#","errorCode":"Client.UnauthorizedOperation""#;
    let rig = Rig::new(&[
        line("2027-01-15T08:00:00Z", OPERATOR, "RunInstances", ""),
        line("2027-01-15T08:00:01Z", &session(ID), "ModifyInstanceMetadataOptions", denied),
        line("2027-01-16T00:00:00Z", r#""type":"Unknown""#, "\\u001b[2J", denied),
    ]);
    let expected = "\
TIME      WHO                  WHAT                    SOURCE           RESULT
2027-01-15 UTC
08:00:00  operator             ec2:RunInstances        192.168.100.200  ok
08:00:01  i-0123456789abcdef0  ec2:ModifyInstanceMet…  192.168.100.200  UnauthorizedOperation
2027-01-16 UTC
00:00:00  unknown              ec2:\u{fffd}[2J                192.168.100.200  UnauthorizedOperation
";
    assert_eq!(rig.show(0, None, Output::Table), (expected.to_owned(), 0));
    let wide = row("00:00:00", &"w".repeat(99), &"x".repeat(99), &"2001:db8:".repeat(9), "ok");
    assert_eq!(wide.chars().count(), 74);
}

#[test]
fn json_is_what_was_written() {
    let lines = [line("2027-01-15T08:00:00Z", OPERATOR, "RunInstances", r#","zeta":1,"alpha":[2]"#)];
    assert_eq!(Rig::new(&lines).show(0, None, Output::Json), (format!("{}\n", lines[0]), 0));
}

#[test]
fn an_instance_is_in_calls_it_made_and_in_calls_that_name_it() {
    let time = "2027-01-15T08:00:00Z";
    let shown = [
        line(time, &session(ID), "A", ""),
        line(
            time,
            OPERATOR,
            "B",
            &format!(r#","requestParameters":{{"InstanceId.1":"{OTHER}","InstanceId.2":"{ID}"}}"#),
        ),
        line(time, OPERATOR, "C", &format!(r#","responseElements":{{"instancesSet":["{ID}"]}}"#)),
        line(
            time,
            OPERATOR,
            "D",
            &format!(r#","responseElements":{{"instancesSet":{{"items":[{{"instanceId":"{ID}"}}]}}}}"#),
        ),
    ];
    let hidden = [
        line(time, &session(OTHER), "E", ""),
        line(time, OPERATOR, "F", &format!(r#","requestParameters":{{"Value":"about {ID}"}}"#)),
        line(time, OPERATOR, "G", &format!(r#","userAgent":"{ID}""#)),
    ];
    let rig = Rig::new(&[shown.as_slice(), &hidden].concat());
    assert_eq!(rig.show(0, Some(&[ID]), Output::Json), (shown.join("\n") + "\n", 0));
    assert_eq!(rig.show(0, Some(&["i-00000000"]), Output::Json), (String::new(), 0));
}

#[test]
fn since_includes_its_own_second() {
    let rig = Rig::new(&[line("2027-01-15T08:00:00Z", OPERATOR, "A", "")]);
    assert_eq!(rig.show(1_800_000_000, None, Output::Json).0.lines().count(), 1);
    assert_eq!(rig.show(1_800_000_001, None, Output::Json).0, "");
}

#[test]
fn what_is_no_record_is_passed_over_and_told() {
    let good = line("2027-01-15T08:00:00Z", OPERATOR, "A", "");
    let bad = [
        String::new(),
        "{}".into(),
        "[]".into(),
        "\0\0".into(),
        "[".repeat(1000),
        line("yesterday", OPERATOR, "A", ""),
        "x".repeat(inborn_region::LINE_BYTES_MAX + 1),
    ];
    let torn = good[..good.len() - 1].to_owned();
    let rig = Rig::new(&[bad.as_slice(), &[good.clone(), torn]].concat());
    assert_eq!(rig.show(0, None, Output::Json), (format!("{good}\n"), 8));
}

#[tokio::test]
async fn names_of_the_past_are_in_the_audit() {
    let time = "2027-01-15T08:00:00Z";
    let launched = |name: &str, id: &str, more: &str| {
        let tag = format!(r#""TagSpecification.1.Tag.2.Key":"Name","TagSpecification.1.Tag.2.Value":"{name}""#);
        let elements = format!(r#""responseElements":{{"instancesSet":["{id}"]}}{more}"#);
        line(time, OPERATOR, "RunInstances", &format!(r#","requestParameters":{{{tag}}},{elements}"#))
    };
    let named = format!(r#","requestParameters":{{"ResourceId.1":"{OTHER}","Tag.1.Key":"Name","Tag.1.Value":"web"}}"#);
    let rig = Rig::new(&[
        launched("web", ID, ""),
        launched("db", "i-00000001", ""),
        launched("web", "i-00000002", r#","errorCode":"Client.Denied""#),
        line(time, OPERATOR, "CreateTags", &named),
    ]);
    let found = instances("web", None, &rig.path()).await.unwrap();
    assert_eq!(found, BTreeSet::from([ID.to_owned(), OTHER.to_owned()]));
    assert_eq!(instances(ID, None, &rig.path()).await.unwrap(), BTreeSet::from([ID.to_owned()]));
    let error = instances("none", None, &rig.path()).await.unwrap_err().to_string();
    assert_eq!(error, "no machine was called none, as far as the audit goes back");
}

#[test]
fn a_directory_without_an_audit_is_told_of() {
    let base = tempfile::tempdir().unwrap();
    let error = open(&base.path().join("none/audit.jsonl"), UnixTime::from_secs(0), false).unwrap_err().to_string();
    assert!(error.contains("--data") && error.contains("none/audit.jsonl"), "{error}");
}
