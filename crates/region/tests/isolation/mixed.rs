//! GuardDuty, asked with ids of two accounts in one call: one's detector and the other's finding, filter or set. Whoever checks the
//! detector alone, or the thing alone, would let it through.

use super::*;

/// What an account has in GuardDuty.
struct Things {
    signer: Signer,
    account: &'static str,
    detector: String,
    finding: String,
    filter: &'static str,
    ip_set: String,
    threat_set: String,
}

const OWNER: &str = "123456789012";

async fn things(running: &Running, signer: Signer, account: &'static str, filter: &'static str) -> Things {
    let post = async |target: &str, body: &Value| done(running, &signer, &guardduty(target, body)).await;
    let made = post("/detector", &value!({"enable": true, "tags": {"whose": account}})).await;
    let detector = member(&made, "/detectorId");
    let at = |rest: &str| format!("/detector/{detector}/{rest}");
    post(&at("findings/create"), &value!({"findingTypes": ["Execution:Runtime/ReverseShell"]})).await;
    let finding = member(&post(&at("findings"), &value!({})).await, "/findingIds/0");
    let criteria = value!({"criterion": {"severity": {"gte": 4}}});
    post(&at("filter"), &value!({"name": filter, "findingCriteria": criteria, "tags": {"whose": account}})).await;
    let set = value!({"name": account, "format": "TXT", "location": "file:addresses.txt", "activate": true,
        "tags": {"whose": account}});
    let ip_set = member(&post(&at("ipset"), &set).await, "/ipSetId");
    let threat_set = member(&post(&at("threatintelset"), &set).await, "/threatIntelSetId");
    Things { signer, account, detector, finding, filter, ip_set, threat_set }
}

impl Things {
    /// All of it, as its owner sees it.
    async fn seen(&self, running: &Running) -> Vec<String> {
        let Self { detector, finding, filter, ip_set, threat_set, account, .. } = self;
        let arn = |rest: &str| {
            let arn = format!("arn:aws:guardduty:eu-central-1:{account}:detector/{detector}{rest}");
            format!("/tags/{}", arn.replace(':', "%3A").replace('/', "%2F"))
        };
        let mut all = Vec::new();
        for target in [
            format!("/detector/{detector}"),
            format!("/detector/{detector}/filter"),
            format!("/detector/{detector}/ipset"),
            format!("/detector/{detector}/threatintelset"),
            format!("/detector/{detector}/filter/{filter}"),
            format!("/detector/{detector}/ipset/{ip_set}"),
            format!("/detector/{detector}/threatintelset/{threat_set}"),
            arn(""),
            arn(&format!("/filter/{filter}")),
            arn(&format!("/ipset/{ip_set}")),
            arn(&format!("/threatintelset/{threat_set}")),
        ] {
            all.push(done(running, &self.signer, &get(&target)).await);
        }
        let findings = format!("/detector/{detector}/findings");
        all.push(done(running, &self.signer, &guardduty(&findings, &value!({}))).await);
        let of_it = guardduty(&format!("{findings}/get"), &value!({"findingIds": [finding]}));
        all.push(done(running, &self.signer, &of_it).await);
        all
    }
}

fn get(target: &str) -> Call {
    Call { method: "GET", body: String::new(), ..guardduty(target, &Value::Null) }
}

fn delete(target: &str) -> Call {
    Call { method: "DELETE", ..get(target) }
}

/// Every call that names a detector and something in it; the one of `of`, the other of `thing`. Those of whose answers nothing but what is
/// missing may be told, and those that must be refused.
fn calls(of: &Things, thing: &Things) -> (Vec<Call>, Vec<Call>) {
    let at = |rest: String| format!("/detector/{}/{rest}", of.detector);
    let ids = value!({"findingIds": [thing.finding]});
    let silent = vec![
        guardduty(&at("findings/get".into()), &ids),
        guardduty(&at("findings/archive".into()), &ids),
        guardduty(&at("findings/unarchive".into()), &ids),
        guardduty(&at("findings/feedback".into()), &value!({"findingIds": [thing.finding], "feedback": "USEFUL"})),
        // Both in one: what is one's own must not carry the other's along.
        guardduty(&at("findings/get".into()), &value!({"findingIds": [of.finding, thing.finding]})),
    ];
    let (filter, ip_set) = (at(format!("filter/{}", thing.filter)), at(format!("ipset/{}", thing.ip_set)));
    let threat_set = at(format!("threatintelset/{}", thing.threat_set));
    let mut refused = vec![
        get(&filter),
        get(&ip_set),
        get(&threat_set),
        guardduty(&filter, &value!({"description": "mixed"})),
        guardduty(&ip_set, &value!({"activate": false})),
        guardduty(&threat_set, &value!({"activate": false})),
    ];
    let mut arns = Vec::new();
    for account in [of.account, thing.account] {
        for rest in [
            format!("filter/{}", thing.filter),
            format!("ipset/{}", thing.ip_set),
            format!("threatintelset/{}", thing.threat_set),
        ] {
            let arn = format!("arn:aws:guardduty:eu-central-1:{account}:detector/{}/{rest}", of.detector);
            arns.push(arn);
        }
    }
    // A detector that is not of the account that the ARN says.
    arns.push(format!("arn:aws:guardduty:eu-central-1:{}:detector/{}", of.account, thing.detector));
    arns.push(format!("arn:aws:guardduty:eu-central-1:{}:detector/{}", thing.account, of.detector));
    for arn in arns {
        let target = format!("/tags/{}", arn.replace(':', "%3A").replace('/', "%2F"));
        refused.push(get(&target));
        refused.push(guardduty(&target, &value!({"tags": {"mixed": "yes"}})));
        refused.push(delete(&format!("{target}?tagKeys=whose")));
    }
    refused.extend([delete(&filter), delete(&ip_set), delete(&threat_set)]);
    (silent, refused)
}

#[tokio::test]
async fn ids_of_two_accounts_in_one_call_tell_and_change_nothing() {
    let running = start().await;
    let lists = running.directory.path().join("lists");
    std::fs::create_dir(&lists).unwrap();
    std::fs::write(lists.join("addresses.txt"), "192.0.2.1\n").unwrap();
    running.region.read_lists_from(lists);
    let other = stranger(&running, OTHER).await;
    let first = things(&running, running.operator(), OWNER, "quiet").await;
    let second = things(&running, other, OTHER, "loud").await;
    let before = [first.seen(&running).await, second.seen(&running).await];
    let mut wrong = Vec::new();
    for (caller, of, thing, others) in [
        (&second, &second, &first, &first),
        (&second, &first, &second, &first),
        (&first, &first, &second, &second),
        (&first, &second, &first, &second),
    ] {
        let (silent, refused) = calls(of, thing);
        let marks = [others.account, others.detector.as_str(), &others.ip_set, &others.threat_set];
        for (call, may_be_done) in
            silent.iter().map(|call| (call, true)).chain(refused.iter().map(|call| (call, false)))
        {
            let reply = running.send(&caller.signer, call).await;
            let is_done = (200..300).contains(&reply.status);
            let tells = marks.iter().any(|mark| reply.body.contains(mark))
                || is_done && reply.body.contains(others.finding.as_str());
            if tells || (is_done && !may_be_done) || reply.status >= 500 {
                wrong.push(format!("{} {} {}: {} {}", call.method, call.target, call.body, reply.status, reply.body));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!([first.seen(&running).await, second.seen(&running).await], before, "something was changed");
    // The same calls with the ids of one account are done, each of them: they are refused for whose the ids are.
    for one in [&first, &second] {
        let (silent, refused) = calls(one, one);
        for call in silent.iter().chain(&refused) {
            let reply = running.send(&one.signer, call).await;
            let said = format!("{} {} {}: {} {}", call.method, call.target, call.body, reply.status, reply.body);
            assert!((200..300).contains(&reply.status), "{said}");
        }
    }
}
