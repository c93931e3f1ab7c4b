//! The documents, byte for byte, and the script that reads them line by line.

use inborn_imds::{Class, Delivery, PreparedCredential, identity_document};

use crate::lab::{Lab, NOW, facts, full_lab, lab};

const CREDENTIALS: &str = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
const TOKEN: &str = "X-aws-ec2-metadata-token: {token}";

fn credentials_document(name: &str) -> String {
    format!(
        r#"{{
  "Code" : "Success",
  "LastUpdated" : "2026-11-18T11:05:40Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIA{name}",
  "SecretAccessKey" : "secret{name}",
  "Token" : "token{name}",
  "Expiration" : "2026-11-18T17:13:20Z"
}}"#
    )
}

#[test]
fn credentials_of_both_deliveries() {
    let headers = "200 text/plain\nlast-modified: Wed, 18 Nov 2026 11:05:40 GMT\naccept-ranges: none\n";
    let v1 = credentials_document("V1");
    let v2 = credentials_document("V2");
    for path in [CREDENTIALS, &format!("{CREDENTIALS}/")] {
        lab().check(&format!("GET {path}"), &format!("{headers}\n{v1}"));
        let left = "x-aws-ec2-metadata-token-ttl-seconds: 21600\n";
        lab().check(&format!("GET {path}\n{TOKEN}"), &format!("{headers}{left}\n{v2}"));
    }
}

#[test]
fn says_which_credentials_left() {
    let asked = |lab: &Lab, request: &str| lab.ask(request, |response| (response.class, response.delivery));
    let credentials = |delivery| (Class::Credentials, delivery);
    assert_eq!(asked(&lab(), &format!("GET {CREDENTIALS}")), credentials(Some(Delivery::V1)));
    assert_eq!(asked(&lab(), &format!("GET {CREDENTIALS}\n{TOKEN}")), credentials(Some(Delivery::V2)));
    assert_eq!(asked(&lab(), &format!("HEAD {CREDENTIALS}\n{TOKEN}")), credentials(None), "HEAD carries none away");
    assert_eq!(asked(&lab().required(), &format!("GET {CREDENTIALS}")), (Class::Refused, None));
    assert_eq!(asked(&lab(), "GET /latest/meta-data/identity-credentials/ec2/info"), (Class::Leaf, None));
    assert_eq!(asked(&lab(), "GET /latest/dynamic/instance-identity/document"), (Class::Dynamic, None));
    assert_eq!(asked(&lab(), "GET /latest/meta-data"), (Class::Listing, None));
    assert_eq!(asked(&full_lab(), "GET /latest/user-data"), (Class::UserData, None));
    assert_eq!(asked(&lab(), "GET /latest/api/token"), (Class::Token, None));
}

#[test]
fn debug_of_an_answer_shows_no_secret() {
    let shown = lab().ask(&format!("GET {CREDENTIALS}"), |response| format!("{response:?}"));
    assert_eq!(
        shown,
        format!(
            "Response {{ status: 200, class: Credentials, content_length: {}, delivery: Some(V1), .. }}",
            credentials_document("V1").len()
        )
    );
}

#[test]
fn info() {
    let expected = r#"{
  "Code" : "Success",
  "LastUpdated" : "2026-11-18T11:05:40Z",
  "AccountId" : "123456789012"
}"#;
    assert_eq!(lab().get("/latest/meta-data/identity-credentials/ec2/info"), expected);
}

const IDENTITY: &str = r#"{
  "accountId" : "123456789012",
  "architecture" : "x86_64",
  "availabilityZone" : "us-east-1a",
  "billingProducts" : null,
  "devpayProductCodes" : null,
  "marketplaceProductCodes" : null,
  "imageId" : "ami-0123456789abcdef0",
  "instanceId" : "i-0123456789abcdef0",
  "instanceType" : "t3.micro",
  "kernelId" : null,
  "pendingTime" : "2026-11-18T10:06:40Z",
  "privateIp" : "10.0.0.5",
  "ramdiskId" : null,
  "region" : "us-east-1",
  "version" : "2017-09-30"
}"#;

#[test]
fn identity() {
    let instance = "i-0123456789abcdef0".parse().unwrap();
    assert_eq!(identity_document(instance, &facts()), IDENTITY);
    let mut facts = facts();
    facts.private_ip = None;
    let expected = IDENTITY.replace("\"10.0.0.5\"", "null");
    assert_eq!(identity_document(instance, &facts), expected);
    lab().check(
        "GET /latest/dynamic/instance-identity/document",
        &format!("200 text/plain\nlast-modified: Wed, 18 Nov 2026 10:06:40 GMT\naccept-ranges: bytes\n\n{IDENTITY}"),
    );
}

#[test]
fn signatures() {
    let headers = "200 text/plain\nlast-modified: Wed, 18 Nov 2026 10:06:40 GMT\naccept-ranges: bytes\n";
    for (leaf, expected) in [("pkcs7", "cGtj\nczc="), ("rsa2048", "cGtj\nczc="), ("signature", "c2ln\nbmF0")] {
        lab().check(&format!("GET /latest/dynamic/instance-identity/{leaf}"), &format!("{headers}\n{expected}"));
    }
}

/// What a line-wise `s/^.*"KEY" : "\(.*\)",.*$/\1/p` finds: everything between the quote and the last `",` of the line.
fn extract<'a>(document: &'a str, key: &str) -> Vec<&'a str> {
    let opening = format!("\"{key}\" : \"");
    document
        .lines()
        .filter_map(|line| line.split_once(opening.as_str()))
        .filter_map(|(_, rest)| rest.rsplit_once("\","))
        .map(|(value, _)| value)
        .collect()
}

/// The host-key script of EC2 Instance Connect 1.1.14 reads these values line by line.
#[test]
fn a_line_wise_script_finds_its_values() {
    let (id, secret, token) = ("ASIA52GPOBQCD6DF76FQ", "a+/b".repeat(10), "inb1_-".repeat(50));
    let prepared = PreparedCredential::render(id, &secret, &token, NOW, NOW.plus(1));
    let mut lab = lab();
    let other = PreparedCredential::render("x", "y", "z", NOW, NOW.plus(1));
    lab.credentials = Some(inborn_imds::PreparedCredentials::new(lab.facts.account, prepared, other));
    let document = lab.get(CREDENTIALS);
    assert_eq!(extract(&document, "AccessKeyId"), [id]);
    assert_eq!(extract(&document, "SecretAccessKey"), [secret.as_str()]);
    assert_eq!(extract(&document, "Token"), [token.as_str()]);
    assert_eq!(extract(&document, "Code"), ["Success"]);
    assert!(extract(&document, "Expiration").is_empty(), "the last value has no comma, and the script expects none");
    assert_eq!(extract(&lab.get("/latest/dynamic/instance-identity/document"), "accountId"), ["123456789012"]);
}

#[test]
fn the_documents_are_json() {
    let document: serde_json::Value = serde_json::from_str(&lab().get(CREDENTIALS)).unwrap();
    assert_eq!(document["Expiration"], "2026-11-18T17:13:20Z");
    assert_eq!(document.as_object().unwrap().len(), 7);
    let identity: serde_json::Value = serde_json::from_str(IDENTITY).unwrap();
    assert_eq!(identity.as_object().unwrap().len(), 15);
    assert!(identity["kernelId"].is_null());
}
