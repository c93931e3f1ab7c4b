//! Inventory and compliance: what agents and operators put, and how it is found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use inborn_identity::InstanceId;
use serde_json::{Value, json as value};

fn body(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{}", reply.body))
}

fn code(reply: &Reply) -> String {
    if reply.status == 200 { String::new() } else { body(reply)["__type"].as_str().unwrap_or_default().to_owned() }
}

async fn ask(running: &Running, signer: &Signer, operation: &str, question: Value) -> Reply {
    running.send(signer, &json("ssm", &format!("AmazonSSM.{operation}"), &question.to_string())).await
}

async fn operator(running: &Running, operation: &str, question: Value) -> Reply {
    ask(running, &running.operator(), operation, question).await
}

/// A machine whose agent has been heard.
async fn node(running: &Running, platform: &str, version: &str) -> (InstanceId, Signer) {
    let (id, _agent, session) = running.managed().await;
    let facts = value!({
        "AgentName": "amazon-ssm-agent", "AgentVersion": version, "InstanceId": id.to_string(), "PlatformType": platform,
    });
    assert_eq!(code(&ask(running, &session, "UpdateInstanceInformation", facts).await), "");
    (id, session)
}

fn item(name: &str, hash: &str, content: Value) -> Value {
    value!({
        "TypeName": name, "SchemaVersion": "1.1", "CaptureTime": "2026-11-26T18:00:00Z", "ContentHash": hash,
        "Content": content,
    })
}

fn put(id: InstanceId, items: &[Value]) -> Value {
    value!({"InstanceId": id.to_string(), "Items": items})
}

async fn entries(running: &Running, id: InstanceId, name: &str) -> Value {
    let reply =
        operator(running, "ListInventoryEntries", value!({"InstanceId": id.to_string(), "TypeName": name})).await;
    assert_eq!(code(&reply), "");
    body(&reply)
}

#[tokio::test]
async fn what_agents_put_is_found() {
    let running = start().await;
    let (id, session) = node(&running, "Linux", "3.3.0.0").await;
    let programs = value!([{"Name": "sshd", "Version": "9.2"}, {"Name": "cron", "Version": "3.0"}]);
    let reply =
        ask(&running, &session, "PutInventory", put(id, &[item("AWS:Application", "h1", programs.clone())])).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    let expected = value!({
        "TypeName": "AWS:Application", "InstanceId": id.to_string(), "SchemaVersion": "1.1",
        "CaptureTime": "2026-11-26T18:00:00Z", "Entries": programs,
    });
    assert_eq!(entries(&running, id, "AWS:Application").await, expected);
    let question = value!({"ResultAttributes": [{"TypeName": "AWS:Application"}]});
    let expected = value!({"Entities": [{"Id": id.to_string(), "Data": {"AWS:Application": {
        "TypeName": "AWS:Application", "SchemaVersion": "1.1", "CaptureTime": "2026-11-26T18:00:00Z",
        "ContentHash": "h1", "Content": programs,
    }}}]});
    assert_eq!(body(&operator(&running, "GetInventory", question).await), expected);
    // A node that has nothing of a type is left out; of itself it has always told.
    let question = value!({"ResultAttributes": [{"TypeName": "AWS:Service"}]});
    assert_eq!(body(&operator(&running, "GetInventory", question).await), value!({"Entities": []}));
    let known = body(&operator(&running, "GetInventory", value!({})).await);
    let expected = value!({
        "AgentType": "amazon-ssm-agent", "AgentVersion": "3.3.0.0", "InstanceId": id.to_string(),
        "InstanceStatus": "Active", "PlatformType": "Linux", "ResourceType": "EC2Instance",
    });
    assert_eq!(known["Entities"][0]["Data"]["AWS:InstanceInformation"]["Content"], value!([expected]));
    // It goes with its machine.
    running.send(&running.operator(), &ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"))).await;
    assert_eq!(body(&operator(&running, "GetInventory", value!({})).await), value!({"Entities": []}));
    let gone =
        operator(&running, "ListInventoryEntries", value!({"InstanceId": id.to_string(), "TypeName": "AWS:File"}))
            .await;
    assert_eq!(code(&gone), "InvalidInstanceId");
}

/// Agents leave out what has not changed, and send all of it when they are told that it did.
#[tokio::test]
async fn a_hash_stands_for_what_is_known() {
    let running = start().await;
    let (id, session) = node(&running, "Linux", "3.3.0.0").await;
    let send = async |item: Value| code(&ask(&running, &session, "PutInventory", put(id, &[item])).await);
    let bare = |hash: &str, time: &str| value!({"TypeName": "AWS:File", "SchemaVersion": "1.1", "CaptureTime": time, "ContentHash": hash});
    let seen = async || {
        let found = entries(&running, id, "AWS:File").await;
        (found["CaptureTime"].as_str().unwrap_or_default().to_owned(), found["Entries"].clone())
    };
    assert_eq!(send(bare("h1", "2026-11-26T19:00:00Z")).await, "ItemContentMismatchException");
    assert_eq!(send(item("AWS:File", "h1", value!([{"a": "1"}]))).await, "");
    assert_eq!(send(bare("h1", "2026-11-26T19:00:00Z")).await, "");
    assert_eq!(seen().await, ("2026-11-26T19:00:00Z".to_owned(), value!([{"a": "1"}])));
    assert_eq!(send(bare("h2", "2026-11-26T20:00:00Z")).await, "ItemContentMismatchException");
    assert_eq!(send(bare("", "2026-11-26T20:00:00Z")).await, "ItemContentMismatchException");
    // The same hash with other content: AWS does not look at it either.
    assert_eq!(send(item("AWS:File", "h1", value!([{"a": "2"}]))).await, "");
    assert_eq!(seen().await, ("2026-11-26T18:00:00Z".to_owned(), value!([{"a": "1"}])));
    assert_eq!(send(item("AWS:File", "h2", value!([]))).await, "");
    assert_eq!(seen().await, ("2026-11-26T18:00:00Z".to_owned(), value!([])));
    // Unrenewed it is forgotten after thirty days.
    const DAY: u64 = 24 * 3600;
    for (seconds, found) in [(30 * DAY, value!("1.1")), (30 * DAY + 1, Value::Null)] {
        running.clock.set(NOW.plus(seconds));
        running.region.tidy().await;
        assert_eq!(entries(&running, id, "AWS:File").await["SchemaVersion"], found, "{seconds}");
    }
}

#[tokio::test]
async fn inventory_that_is_refused() {
    let running = start().await;
    let (id, session) = node(&running, "Linux", "3.3.0.0").await;
    let other = node(&running, "Linux", "3.3.0.0").await.0;
    let silent = running.launch().await;
    let send = async |body: Value| code(&ask(&running, &session, "PutInventory", body).await);
    let good = item("AWS:File", "h", value!([{"a": "1"}]));
    let changed = |member: &str, value: Value| {
        let mut changed = good.clone();
        changed[member] = value;
        put(id, &[changed])
    };
    for (question, expected) in [
        (put(other, std::slice::from_ref(&good)), "AccessDeniedException"),
        (put(id, &[]), "ValidationException"),
        (put(id, &[good.clone(), good.clone()]), "InvalidItemContentException"),
        (changed("TypeName", value!("AWS:Nothing")), "InvalidTypeNameException"),
        (changed("TypeName", value!("Nothing")), "ValidationException"),
        (changed("SchemaVersion", value!("1")), "ValidationException"),
        (changed("CaptureTime", value!("yesterday")), "ValidationException"),
        (changed("ContentHash", value!("h".repeat(257))), "ValidationException"),
        (changed("Content", value!([{"a": 1}])), "InvalidItemContentException"),
        (changed("Content", value!([1])), "SerializationException"),
        (changed("Context", value!({"a": "1"})), "UnsupportedInventoryItemContextException"),
    ] {
        assert_eq!(send(question.clone()).await, expected, "{question}");
    }
    // Operators may put for every node, and for nothing else.
    for (instance, expected) in [(other, ""), (silent, "InvalidInstanceId")] {
        assert_eq!(
            code(&operator(&running, "PutInventory", put(instance, std::slice::from_ref(&good))).await),
            expected
        );
    }
    // A value fits the size to the byte: `[{"a":"…"},…]`.
    let sized = |bytes: usize| {
        let (whole, rest) = (bytes / 4008, bytes % 4008);
        let mut list: Vec<Value> = (0..whole).map(|_| value!({"a": "x".repeat(3999)})).collect();
        list.push(value!({"a": "x".repeat(rest.saturating_sub(9))}));
        Value::Array(list)
    };
    let length = |list: &Value| list.to_string().len();
    for (limit, name, expected) in [
        (200 * 1024, "Custom:Big", "ItemSizeLimitExceededException"),
        (1024 * 1024, "AWS:Service", "TotalSizeLimitExceededException"),
    ] {
        for (over, expected) in [(-1, ""), (0, ""), (1, expected)] {
            let wanted = usize::try_from(limit + over).unwrap();
            let mut list = sized(wanted);
            let excess = i64::try_from(length(&list)).unwrap() - i64::try_from(wanted).unwrap();
            let last = list.as_array().unwrap().len() - 1;
            let text = list[last]["a"].as_str().unwrap().len();
            list[last]["a"] = "x".repeat(usize::try_from(i64::try_from(text).unwrap() - excess).unwrap()).into();
            // The context, `{}`, counts too.
            if name == "AWS:Service" {
                let text = list[last]["a"].as_str().unwrap().len();
                list[last]["a"] = "x".repeat(text - 2).into();
            }
            let reply = ask(&running, &session, "PutInventory", put(id, &[item(name, "", list)])).await;
            assert_eq!(code(&reply), expected, "{name} {over}");
        }
    }
    for number in 1..=20 {
        let custom = item(&format!("Custom:T{number}"), "", value!([]));
        let expected = if number == 20 { "CustomSchemaCountLimitExceededException" } else { "" };
        assert_eq!(send(put(id, &[custom])).await, expected, "{number}");
    }
}

#[tokio::test]
async fn inventory_is_found_by_filters_and_in_pages() {
    let running = start().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let platform = if number == 0 { "Windows" } else { "Linux" };
        let (id, session) = node(&running, platform, &format!("3.{number}.0.0")).await;
        let programs = value!([{"Name": "sshd", "Version": format!("9.{number}")}, {"Name": "cron"}]);
        ask(&running, &session, "PutInventory", put(id, &[item("AWS:Application", "", programs)])).await;
        ids.push(id.to_string());
    }
    let found = async |filters: Value| {
        let reply = operator(&running, "GetInventory", value!({"Filters": filters})).await;
        let list = body(&reply)["Entities"].as_array().unwrap_or_else(|| panic!("{}", reply.body)).clone();
        let mut found: Vec<String> = list.iter().map(|one| one["Id"].as_str().unwrap().to_owned()).collect();
        found.sort_by_key(|id| ids.iter().position(|known| known == id));
        found
    };
    let one = |key: &str, operator: &str, values: &[&str]| value!([{"Key": key, "Type": operator, "Values": values}]);
    let information = |name: &str| format!("AWS:InstanceInformation.{name}");
    assert_eq!(found(one(&information("PlatformType"), "Equal", &["Windows", "x"])).await, ids[..1]);
    assert_eq!(found(one(&information("PlatformType"), "NotEqual", &["Windows"])).await, ids[1..]);
    assert_eq!(found(one(&information("InstanceId"), "Equal", &[&ids[2]])).await, ids[2..3]);
    assert_eq!(found(one(&information("AgentVersion"), "GreaterThan", &["3.4.9.9"])).await, ids[5..]);
    assert_eq!(found(one("AWS:Application.Version", "LessThan", &["9.2"])).await, ids[..2]);
    assert_eq!(found(one("AWS:Application.Version", "BeginWith", &["9.3"])).await, ids[3..4]);
    assert_eq!(found(one("AWS:Application.Absent", "Equal", &["x"])).await.len(), 0);
    let both = value!([
        {"Key": "AWS:Application.Name", "Values": ["sshd"]}, {"Key": information("PlatformType"), "Values": ["Windows"]},
    ]);
    assert_eq!(found(both).await, ids[..1]);

    let (mut all, mut token) = (Vec::new(), Value::Null);
    loop {
        let page = body(&operator(&running, "GetInventory", value!({"MaxResults": 3, "NextToken": token})).await);
        let list = page["Entities"].as_array().unwrap();
        assert!(list.len() <= 3);
        all.extend(list.iter().map(|one| one["Id"].as_str().unwrap().to_owned()));
        token = page["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    ids.sort();
    assert_eq!(all, ids);

    let key = information("PlatformType");
    for (question, expected) in [
        (value!({"Filters": one("PlatformType", "Equal", &["x"])}), "InvalidFilter"),
        (value!({"Filters": one("AWS:Nothing.Name", "Equal", &["x"])}), "InvalidFilter"),
        (value!({"Filters": one(&key, "Exists", &["true"])}), "InvalidFilter"),
        (value!({"Filters": one(&key, "Equal", &[])}), "InvalidFilter"),
        (value!({"Filters": one(&key, "Equal", &["x"; 41])}), "InvalidFilter"),
        (value!({"Filters": vec![one(&key, "Equal", &["x"])[0].clone(); 6]}), "InvalidFilter"),
        (value!({"Aggregators": [{"Expression": key}]}), "InvalidAggregatorException"),
        (value!({"ResultAttributes": [{"TypeName": "AWS:Nothing"}]}), "InvalidTypeNameException"),
        (value!({"NextToken": "x"}), "InvalidNextToken"),
        (value!({"MaxResults": 0}), "ValidationException"),
        (value!({"MaxResults": 51}), "ValidationException"),
    ] {
        assert_eq!(code(&operator(&running, "GetInventory", question.clone()).await), expected, "{question}");
    }
    let listed = async |more: Value| {
        let mut question = value!({"InstanceId": ids[0], "TypeName": "AWS:Application"});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        operator(&running, "ListInventoryEntries", question).await
    };
    let first = body(&listed(value!({"MaxResults": 1})).await);
    assert_eq!(first["Entries"][0]["Name"], "sshd");
    let second = body(&listed(value!({"MaxResults": 1, "NextToken": first["NextToken"]})).await);
    assert_eq!((&second["Entries"], &second["NextToken"]), (&value!([{"Name": "cron"}]), &Value::Null));
    let named = body(&listed(value!({"Filters": one("Name", "BeginWith", &["cr"])})).await);
    assert_eq!(named["Entries"], value!([{"Name": "cron"}]));
    assert_eq!(code(&listed(value!({"Filters": one("Name", "Exists", &["cr"])})).await), "InvalidFilter");
}

fn compliance(id: &str, kind: &str, hash: &str, items: Value) -> Value {
    value!({
        "ResourceId": id, "ResourceType": "ManagedInstance", "ComplianceType": kind, "ItemContentHash": hash,
        "ExecutionSummary": {"ExecutionTime": 1_795_716_000, "ExecutionType": "Command", "ExecutionId": "e1"},
        "Items": items,
    })
}

#[tokio::test]
async fn compliance_is_kept_and_found() {
    let running = start().await;
    let (id, session) = node(&running, "Linux", "3.3.0.0").await;
    let text = id.to_string();
    let send = async |question: Value| code(&ask(&running, &session, "PutComplianceItems", question).await);
    let patch = |name: &str, status: &str| value!({"Id": name, "Title": "t", "Severity": "HIGH", "Status": status});
    let two = value!([patch("KB1", "COMPLIANT"), patch("KB2", "NON_COMPLIANT")]);
    assert_eq!(send(compliance(&text, "Patch", "h1", two)).await, "");
    assert_eq!(send(compliance(&text, "Custom:Virus", "", value!([patch("v", "COMPLIANT")]))).await, "");
    let list = async |more: Value| {
        let mut question = value!({"ResourceIds": [text]});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        operator(&running, "ListComplianceItems", question).await
    };
    let names = async |more: Value| {
        let found = body(&list(more).await)["ComplianceItems"].as_array().unwrap().clone();
        found.iter().map(|one| one["Id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = value!({
        "Id": "KB2", "Title": "t", "Severity": "HIGH", "Status": "NON_COMPLIANT", "ComplianceType": "Patch",
        "ResourceType": "ManagedInstance", "ResourceId": text,
        "ExecutionSummary": {"ExecutionTime": 1_795_716_000.0, "ExecutionType": "Command", "ExecutionId": "e1"},
    });
    let filter = |key: &str, operator: &str, value: &str| value!({"Filters": [{"Key": key, "Type": operator, "Values": [value]}]});
    assert_eq!(body(&list(filter("Status", "EQUAL", "NON_COMPLIANT")).await)["ComplianceItems"], value!([expected]));
    assert_eq!(names(value!({})).await, ["v", "KB1", "KB2"]);
    assert_eq!(names(filter("ComplianceType", "NOT_EQUAL", "Patch")).await, ["v"]);
    assert_eq!(names(filter("Id", "BEGIN_WITH", "KB")).await, ["KB1", "KB2"]);
    assert_eq!(names(filter("ExecutionType", "EQUAL", "Command")).await.len(), 3);
    let first = body(&list(value!({"MaxResults": 2})).await);
    assert_eq!(names(value!({"MaxResults": 2, "NextToken": first["NextToken"]})).await, ["KB2"]);
    // The same hash is ignored; another one replaces all there was.
    assert_eq!(send(compliance(&text, "Patch", "h1", value!([]))).await, "");
    assert_eq!(names(value!({})).await.len(), 3);
    assert_eq!(send(compliance(&text, "Patch", "h2", value!([]))).await, "");
    assert_eq!(names(value!({})).await, ["v"]);

    let other = node(&running, "Linux", "3.3.0.0").await.0.to_string();
    let changed = |member: &str, value: Value| {
        let mut changed = compliance(&text, "Patch", "", value!([]));
        changed[member] = value;
        changed
    };
    for (question, expected) in [
        (compliance(&other, "Patch", "", value!([])), "AccessDeniedException"),
        (changed("ResourceType", value!("Bucket")), "InvalidResourceType"),
        (changed("ComplianceType", value!("a b")), "ValidationException"),
        (changed("UploadType", value!("PARTIAL")), "InvalidItemContentException"),
        (changed("UploadType", value!("Half")), "ValidationException"),
        (changed("ExecutionSummary", Value::Null), "ValidationException"),
        (changed("ExecutionSummary", value!({"ExecutionTime": "now"})), "ValidationException"),
        (changed("ItemContentHash", value!("h".repeat(257))), "ValidationException"),
        (changed("Items", value!([{"Severity": "HIGH", "Status": "FINE"}])), "ValidationException"),
        (changed("Items", value!([{"Severity": "HUGE", "Status": "COMPLIANT"}])), "ValidationException"),
        (changed("Items", value!([{"Status": "COMPLIANT"}])), "ValidationException"),
        (
            changed("Items", value!([{"Severity": "LOW", "Status": "COMPLIANT", "Title": "t".repeat(501)}])),
            "ValidationException",
        ),
        (changed("Items", value!([{"Severity": "LOW", "Status": "COMPLIANT", "X": 1}])), "InvalidItemContentException"),
    ] {
        assert_eq!(send(question.clone()).await, expected, "{question}");
    }
    for number in 1..=10 {
        let custom = compliance(&text, &format!("Custom:t{number}"), "", value!([]));
        let expected = if number == 10 { "ComplianceTypeCountLimitExceededException" } else { "" };
        assert_eq!(send(custom).await, expected, "{number}");
    }
    for (question, expected) in [
        (value!({}), "InvalidResourceId"),
        (value!({"ResourceIds": [text, other]}), "InvalidResourceId"),
        (value!({"ResourceIds": ["i-0123456789abcdef0"]}), "InvalidResourceId"),
        (value!({"ResourceIds": [text], "ResourceTypes": ["Bucket"]}), "InvalidResourceType"),
        (value!({"ResourceIds": [text], "Filters": [{"Key": "Colour", "Values": ["red"]}]}), "InvalidFilter"),
        (value!({"ResourceIds": [text], "NextToken": "x"}), "InvalidNextToken"),
    ] {
        assert_eq!(code(&operator(&running, "ListComplianceItems", question.clone()).await), expected, "{question}");
    }
}

#[tokio::test]
async fn nodes_are_shown_with_their_machines() {
    let running = start().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let (id, _) = node(&running, if number == 0 { "Windows" } else { "Linux" }, &format!("3.{number}.0.0")).await;
        ids.push(id.to_string());
    }
    let tag = format!("Action=CreateTags&ResourceId.1={}&Tag.1.Key=Name&Tag.1.Value=web", ids[1]);
    assert_eq!(running.send(&running.operator(), &ec2(&tag)).await.status, 200);
    let describe = async |question: Value| operator(&running, "DescribeInstanceProperties", question).await;
    let found = async |question: Value| {
        let reply = describe(question).await;
        body(&reply)["InstanceProperties"].as_array().unwrap_or_else(|| panic!("{}", reply.body)).clone()
    };
    let one = |key: &str, operator: &str, values: &[&str]| value!({"FiltersWithOperator": [{"Key": key, "Operator": operator, "Values": values}]});
    let named = found(one("tag:Name", "Equal", &["web"])).await;
    let expected = value!([{
        "Name": "web", "InstanceId": ids[1], "InstanceType": "m1.small", "InstanceRole": "", "KeyName": "",
        "InstanceState": "running", "Architecture": inborn_region::ARCHITECTURE, "IPAddress": "",
        "LaunchTime": NOW.as_secs(), "PingStatus": "Online", "LastPingDateTime": NOW.as_secs(), "AgentVersion": "3.1.0.0",
        "IsLatestVersion": false, "PlatformType": "Linux", "ResourceType": "EC2Instance", "SourceId": ids[1],
        "SourceType": "AWS::EC2::Instance", "IamRole": inborn_identity::MANAGEMENT_ROLE_NAME,
        "AvailabilityZone": "eu-central-1a",
    }]);
    assert_eq!(Value::Array(named), expected);
    let count = async |question: Value| found(question).await.len();
    assert_eq!(count(one("PlatformTypes", "NotEqual", &["Windows"])).await, 6);
    assert_eq!(count(one("AgentVersion", "LessThan", &["3.2.0.0"])).await, 2);
    assert_eq!(count(one("AgentVersion", "BeginWith", &["3."])).await, 7);
    assert_eq!(count(one("DocumentName", "Equal", &["x"])).await, 0);
    assert_eq!(count(one("tag-key", "Equal", &["Name"])).await, 1);
    let old = |key: &str, values: &[&str]| value!({"InstancePropertyFilterList": [{"key": key, "valueSet": values}]});
    assert_eq!(count(old("InstanceIds", &[&ids[2], &ids[3]])).await, 2);
    ids.sort();
    let first = body(&describe(value!({"MaxResults": 5})).await);
    let rest = found(value!({"MaxResults": 5, "NextToken": first["NextToken"]})).await;
    let all = first["InstanceProperties"].as_array().unwrap().iter().chain(&rest);
    assert_eq!(all.map(|one| one["InstanceId"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    for (question, expected) in [
        (one("Colour", "Equal", &["red"]), "InvalidFilterKey"),
        (one("AgentVersion", "Near", &["red"]), "InvalidInstancePropertyFilterValue"),
        (one("AgentVersion", "Equal", &[]), "InvalidInstancePropertyFilterValue"),
        (old("PingStatus", &["Asleep"]), "InvalidInstancePropertyFilterValue"),
        (old("InstanceIds", &["i-1"]), "InvalidInstanceId"),
        (value!({"MaxResults": 4}), "ValidationException"),
        (value!({"MaxResults": 1001}), "ValidationException"),
        (value!({"NextToken": "x"}), "InvalidNextToken"),
    ] {
        assert_eq!(code(&describe(question.clone()).await), expected, "{question}");
    }
}
