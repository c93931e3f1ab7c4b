use proptest::prelude::*;

use super::*;

fn parse(query: &str, body: &str) -> Result<Parameters, QueryError> {
    Parameters::parse(query.as_bytes(), body.as_bytes())
}

fn read(query: &str) -> Parameters {
    parse(query, "").unwrap()
}

#[test]
fn decodes_names_and_values() {
    let p = read("Action=A%42&N%61me=a+b%20c%2Bd%26e%3Df&Empty=&Bare&&Eq=a=b&%C3%A9=%E2%82%AC");
    assert_eq!(p.action(), Some("AB"));
    assert_eq!(p.get("Name"), Some("a b c+d&e=f"));
    assert_eq!(p.get("Empty"), Some(""));
    assert_eq!(p.get("Bare"), Some(""));
    assert_eq!(p.get("Eq"), Some("a=b"));
    assert_eq!(p.get("é"), Some("€"));
    assert_eq!(p.get("name"), None);
    assert_eq!(p.version(), None);
}

#[test]
fn the_action_may_be_in_the_query_the_body_or_both() {
    let call = "Action=GetCallerIdentity&Version=2011-06-15";
    for (query, body) in [(call, ""), ("", call), (call, call), ("Action=GetCallerIdentity", "Version=2011-06-15")] {
        let p = parse(query, body).unwrap();
        assert_eq!((p.action(), p.version()), (Some("GetCallerIdentity"), Some("2011-06-15")));
    }
    let conflict = QueryError::Conflict { name: "Action".to_owned() };
    assert_eq!(parse("Action=GetCallerIdentity", "Action=AssumeRole").unwrap_err(), conflict);
    assert_eq!(parse("", "Action=A&Action=B").unwrap_err(), conflict);
    assert_eq!(parse("Action=A", "%41ction=B").unwrap_err(), conflict);
    assert_eq!(parse("Action=A&Action=A", "Action=").unwrap_err(), conflict);
}

#[test]
fn broken_escapes_have_the_texts_of_aws() {
    let text = |query: &str| parse(query, "").unwrap_err().to_string();
    assert_eq!(text("A=%"), "Incomplete trailing escape % sequence");
    assert_eq!(text("A=%2&B=1"), "Incomplete trailing escape % sequence");
    assert_eq!(text("A%=1"), "Incomplete trailing escape % sequence");
    assert_eq!(text("A=%xy"), "Illegal hex character in escape % pattern: %xy");
    assert_eq!(text("A=%4G1"), "Illegal hex character in escape % pattern: %4G");
    assert_eq!(parse("", "A=%zz").unwrap_err(), QueryError::IllegalEscape("zz".to_owned()));
}

#[test]
fn refuses_what_is_not_utf8() {
    assert_eq!(Parameters::parse(b"A=%ff", b"").unwrap_err(), QueryError::NotUtf8);
    assert_eq!(Parameters::parse(b"", b"\xc3=1").unwrap_err(), QueryError::NotUtf8);
    assert_eq!(Parameters::parse(b"A=%ED%A0%80", b"").unwrap_err(), QueryError::NotUtf8);
}

#[test]
fn number_of_pairs_below_at_and_above_the_limit() {
    let pairs = |count: usize| (0..count).map(|i| format!("P{i}=x")).collect::<Vec<_>>().join("&");
    for count in [PAIRS_MAX - 1, PAIRS_MAX] {
        assert_eq!(read(&pairs(count)).unread().count(), count);
    }
    assert_eq!(parse(&pairs(PAIRS_MAX + 1), "").unwrap_err(), QueryError::TooMany);
    assert_eq!(parse(&pairs(PAIRS_MAX), "Q=1").unwrap_err(), QueryError::TooMany);
    assert_eq!(parse("", &"A&".repeat(PAIRS_MAX + 1)).unwrap_err(), QueryError::TooMany);
}

#[test]
fn length_of_names_and_values_below_at_and_above_the_limit() {
    for length in [NAME_LENGTH_MAX - 1, NAME_LENGTH_MAX] {
        assert_eq!(read(&"n".repeat(length)).get(&"n".repeat(length)), Some(""));
    }
    assert_eq!(parse(&"n".repeat(NAME_LENGTH_MAX + 1), "").unwrap_err(), QueryError::NameTooLong);
    for length in [VALUE_LENGTH_MAX - 1, VALUE_LENGTH_MAX] {
        assert_eq!(read(&format!("A={}", "%76".repeat(length))).get("A").unwrap().len(), length);
    }
    let error = parse(&format!("A={}", "v".repeat(VALUE_LENGTH_MAX + 1)), "").unwrap_err();
    assert_eq!(error, QueryError::ValueTooLong { name: "A".to_owned() });
}

#[test]
fn list_index_below_at_and_above_the_limit() {
    for index in [LIST_INDEX_MAX - 1, LIST_INDEX_MAX] {
        assert_eq!(read(&format!("Id.{index}=x")).root().list("Id"), ["x"]);
    }
    for index in ["10001", "4294967295", "4294967296", "99999999999999999999"] {
        let name = format!("Id.{index}");
        assert_eq!(parse(&name, "").unwrap_err(), QueryError::IndexTooLarge { name });
    }
}

#[test]
fn depth_of_names_below_at_and_above_the_limit() {
    let name = |parts: usize| vec!["a"; parts].join(".");
    for parts in [DEPTH_MAX - 1, DEPTH_MAX] {
        assert_eq!(read(&name(parts)).get(&name(parts)), Some(""));
    }
    let name = name(DEPTH_MAX + 1);
    assert_eq!(parse(&name, "").unwrap_err(), QueryError::TooDeep { name });
}

#[test]
fn lists_come_in_the_order_of_their_numbers() {
    let p = read("InstanceId.10=j&InstanceId.2=b&InstanceId.1=a&InstanceIds.1=x&InstanceId=y");
    assert_eq!(p.root().list("InstanceId"), ["a", "b", "j"]);
    assert_eq!(p.unread().collect::<Vec<_>>(), ["InstanceId", "InstanceIds.1"]);
    let members = read("PolicyArns.member.1=p&PolicyArns.member.2=q");
    assert_eq!(members.root().list("PolicyArns.member"), ["p", "q"]);
    assert!(members.root().list("Other").is_empty());
}

#[test]
fn odd_indexes_are_no_members_and_stay_unread() {
    let p = read("Id.0=a&Id.01=b&Id.x=c&Id.=d&Id.1.2=e&Id.-1=f&Id.%2B1=g&Id.1=h");
    assert_eq!(p.root().list("Id"), ["h"]);
    assert_eq!(p.unread().collect::<Vec<_>>(), ["Id.", "Id.+1", "Id.-1", "Id.0", "Id.01", "Id.1.2", "Id.x"]);
}

#[test]
fn structures_within_structures() {
    let p = read(
        "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=web&\
         TagSpecification.1.Tag.2.Key=role&TagSpecification.2.ResourceType=volume&\
         Filter.1.Name=vpc-id&Filter.1.Value.1=a&Filter.1.Value.2=b&MetadataOptions.HttpTokens=required",
    );
    let specifications = p.root().structures("TagSpecification");
    assert_eq!(specifications.len(), 2);
    let first = &specifications[0];
    assert_eq!(first.require("ResourceType"), Ok("instance"));
    let tags = first.structures("Tag");
    assert_eq!(tags.len(), 2);
    assert_eq!((tags[0].get("Key"), tags[0].get("Value")), (Some("Name"), Some("web")));
    assert_eq!((tags[1].get("Key"), tags[1].get("Value")), (Some("role"), None));
    assert_eq!(tags[1].whole_name("Key"), "TagSpecification.1.Tag.2.Key");
    assert_eq!(p.unread().next(), Some("Filter.1.Name"));
    let filter = &p.root().structures("Filter")[0];
    assert_eq!((filter.get("Name"), filter.list("Value")), (Some("vpc-id"), vec!["a", "b"]));
    let options = p.root().structure("MetadataOptions");
    assert!(options.is_present());
    assert_eq!(options.get("HttpTokens"), Some("required"));
    assert!(!p.root().structure("Placement").is_present());
    assert_eq!(p.unread().collect::<Vec<_>>(), ["TagSpecification.2.ResourceType"]);
}

#[test]
fn what_belongs_to_every_call_is_never_unread() {
    let p = read("Action=A&Version=V&X-Amz-Signature=s&X-Amz-Date=d&DryRun=true&x-amz-date=d");
    assert_eq!(p.unread().collect::<Vec<_>>(), ["DryRun", "x-amz-date"]);
    assert_eq!(p.root().boolean("DryRun"), Ok(Some(true)));
    assert_eq!(p.unread().collect::<Vec<_>>(), ["x-amz-date"]);
}

#[test]
fn integers_as_sts_takes_them() {
    let integer = |text: &str| {
        let p = parse(&encode([("N", text)]), "").unwrap();
        p.root().integer("N", 0..=i32::MAX)
    };
    for (text, value) in [("900", 900), ("0900", 900), ("+900", 900), ("0", 0), ("2147483647", i32::MAX)] {
        assert_eq!(integer(text), Ok(Some(value)), "{text}");
    }
    for text in [" 900 ", "\t900\n", "900.0", "9e2", "2147483648", "", "+", "0x10", "９"] {
        let error = ParameterError::NotInteger { name: "N".to_owned(), value: text.to_owned() };
        assert_eq!(integer(text), Err(error), "{text}");
    }
    assert_eq!(integer("-1"), Err(ParameterError::TooSmall { name: "N".to_owned(), value: -1, least: 0 }));
    assert_eq!(read("").root().integer("N", 0..=1), Ok(None));
}

#[test]
fn range_of_integers_below_at_and_above_its_ends() {
    let integer = |text: &str| read(&format!("N={text}")).root().integer("N", 900..=43200);
    assert_eq!(integer("899"), Err(ParameterError::TooSmall { name: "N".to_owned(), value: 899, least: 900 }));
    assert_eq!(integer("900"), Ok(Some(900)));
    assert_eq!(integer("43200"), Ok(Some(43200)));
    assert_eq!(integer("43201"), Err(ParameterError::TooLarge { name: "N".to_owned(), value: 43201, most: 43200 }));
}

#[test]
fn booleans_and_sets() {
    let p = read("T=true&U=True&F=FALSE&N=1&E=&S=optional");
    let root = p.root();
    assert_eq!(root.boolean("T"), Ok(Some(true)));
    assert_eq!(root.boolean("U"), Ok(Some(true)));
    assert_eq!(root.boolean("F"), Ok(Some(false)));
    assert_eq!(root.boolean("absent"), Ok(None));
    for name in ["N", "E"] {
        assert!(matches!(root.boolean(name), Err(ParameterError::NotBoolean { .. })));
    }
    const POSSIBLE: &[&str] = &["optional", "required"];
    assert_eq!(root.one_of("S", POSSIBLE), Ok(Some("optional")));
    assert_eq!(root.one_of("absent", POSSIBLE), Ok(None));
    let error = ParameterError::NotOneOf { name: "T".to_owned(), value: "true".to_owned(), possible: POSSIBLE };
    assert_eq!(root.one_of("T", POSSIBLE), Err(error));
    assert_eq!(root.require("absent"), Err(ParameterError::Missing { name: "absent".to_owned() }));
}

#[test]
fn debug_shows_no_values() {
    assert_eq!(format!("{:?}", read("X-Amz-Security-Token=secret&A=b")), "[\"A\", \"X-Amz-Security-Token\"]");
}

proptest! {
    #[test]
    fn never_panics(query in proptest::collection::vec(any::<u8>(), 0..200), body in "[A-Z.=&%0-9]{0,60}") {
        if let Ok(p) = Parameters::parse(&query, body.as_bytes()) {
            let names: Vec<String> = p.unread().map(str::to_owned).collect();
            for name in &names {
                let head = name.split('.').next().unwrap_or_default();
                let members = p.root().list(head).len() + p.root().structures(head).len();
                prop_assert!(members <= 2 * names.len());
            }
            prop_assert!(names.len() <= PAIRS_MAX);
        }
    }

    #[test]
    fn what_is_encoded_decodes(pairs in proptest::collection::btree_map("\\PC{1,12}", any::<String>(), 0..8)) {
        // A bare number in a name could be above the highest index.
        prop_assume!(pairs.keys().all(|name| !name.contains('.') && name.parse::<u64>().is_err()));
        let text = encode(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        for p in [parse(&text, "").unwrap(), parse("", &text).unwrap()] {
            for (name, value) in &pairs {
                prop_assert_eq!(p.get(name), Some(value.as_str()));
            }
            prop_assert_eq!(p.unread().count(), 0);
        }
    }

    #[test]
    fn agrees_with_form_urlencoded(pairs in proptest::collection::btree_map("[A-Za-z]{1,8}", any::<String>(), 0..8)) {
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let p = parse(&text, "").unwrap();
        for (name, value) in &pairs {
            prop_assert_eq!(p.get(name), Some(value.as_str()));
        }
        let ours = encode(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let theirs: Vec<_> = form_urlencoded::parse(ours.as_bytes()).into_owned().collect();
        prop_assert_eq!(theirs, pairs.into_iter().collect::<Vec<_>>());
    }
}
