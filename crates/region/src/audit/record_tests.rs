use inborn_credential::Kind;
use inborn_identity::{AccountId, Partition};
use inborn_listener::TlsFacts;
use serde_json::json;

use super::*;

const TIME: UnixTime = UnixTime::from_secs(1_800_000_000);

fn account() -> AccountId {
    AccountId::new(123_456_789_012).unwrap()
}

fn claims() -> Claims {
    Claims {
        kind: Kind::Identity,
        account: account(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        issued_at: TIME.minus(3600),
        expires_at: TIME.plus(3600),
        delivery: Delivery::V2,
        boot_generation: 1,
        private_address: None,
    }
}

fn record() -> Record<'static> {
    Record {
        time: TIME,
        caller: None,
        claimed_access_key_id: None,
        event_source: "sts.amazonaws.com",
        event_name: "GetCallerIdentity",
        region: "eu-central-1",
        account: "123456789012",
        source: "127.0.0.1",
        user_agent: "aws-cli/2.31.0",
        error: None,
        request_parameters: Value::Null,
        response_elements: Value::Null,
        request_id: "11111111-1111-4111-8111-111111111111",
        event_id: "22222222-2222-4222-8222-222222222222",
        read_only: true,
        tls: None,
    }
}

fn text(record: &Record<'_>) -> String {
    String::from_utf8(line(record)).unwrap()
}

#[test]
fn a_call_of_an_identity_role() {
    let (claims, facts) = (
        claims(),
        TlsFacts { version: "TLSv1.3", cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(), client_certificate: None },
    );
    let principal =
        Principal::IdentityRole { partition: Partition::Aws, account: account(), instance: claims.instance };
    let record = Record {
        caller: Some(AuditCaller {
            principal: &principal,
            access_key_id: "ASIAQABCDEFGHIJKLMNO",
            claims: Some(&claims),
        }),
        tls: Some((&facts, "sts.eu-central-1.amazonaws.com")),
        ..record()
    };
    assert_eq!(
        text(&record),
        concat!(
            r#"{"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","#,
            r#""principalId":"123456789012:aws:ec2-instance:i-0123456789abcdef0","#,
            r#""arn":"arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0","#,
            r#""accountId":"123456789012","accessKeyId":"ASIAQABCDEFGHIJKLMNO","sessionContext":{"sessionIssuer":{"#,
            r#""type":"Role","principalId":"123456789012:aws:ec2-instance","#,
            r#""arn":"arn:aws:iam::123456789012:role/aws:ec2-instance","#,
            r#""accountId":"123456789012","userName":"aws:ec2-instance"},"#,
            r#""attributes":{"creationDate":"2027-01-15T07:00:00Z","mfaAuthenticated":"false"},"#,
            r#""ec2RoleDelivery":"2.0"},"inScopeOf":{"issuerType":"AWS::EC2::Instance","#,
            r#""credentialsIssuedTo":"arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0"}},"#,
            r#""eventTime":"2027-01-15T08:00:00Z","eventSource":"sts.amazonaws.com","#,
            r#""eventName":"GetCallerIdentity","awsRegion":"eu-central-1","sourceIPAddress":"127.0.0.1","#,
            r#""userAgent":"aws-cli/2.31.0","requestParameters":null,"responseElements":null,"#,
            r#""requestID":"11111111-1111-4111-8111-111111111111","eventID":"22222222-2222-4222-8222-222222222222","#,
            r#""readOnly":true,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"123456789012","#,
            r#""eventCategory":"Management","tlsDetails":{"tlsVersion":"TLSv1.3","#,
            r#""cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"sts.eu-central-1.amazonaws.com"}}"#,
            "\n"
        )
    );
}

#[test]
fn a_call_of_an_operator() {
    let principal = Principal::Operator {
        partition: Partition::Aws,
        account: account(),
        name: "operator".into(),
        user_id: "AIDAQABCDEFGHIJKLMNOP".into(),
        access_key_id: "AKIAQABCDEFGHIJKLMNO".parse().unwrap(),
    };
    let record = Record {
        caller: Some(AuditCaller { principal: &principal, access_key_id: "AKIAQABCDEFGHIJKLMNO", claims: None }),
        event_source: "ec2.amazonaws.com",
        event_name: "TerminateInstances",
        request_parameters: json!({ "InstanceId.1": "i-0123456789abcdef0" }),
        error: Some(("InvalidInstanceID.NotFound", "The instance ID 'i-0123456789abcdef0' does not exist")),
        read_only: false,
        ..record()
    };
    assert_eq!(
        text(&record),
        concat!(
            r#"{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","principalId":"AIDAQABCDEFGHIJKLMNOP","#,
            r#""arn":"arn:aws:iam::123456789012:user/operator","accountId":"123456789012","#,
            r#""accessKeyId":"AKIAQABCDEFGHIJKLMNO","userName":"operator"},"#,
            r#""eventTime":"2027-01-15T08:00:00Z","eventSource":"ec2.amazonaws.com","#,
            r#""eventName":"TerminateInstances","awsRegion":"eu-central-1","sourceIPAddress":"127.0.0.1","#,
            r#""userAgent":"aws-cli/2.31.0","errorCode":"Client.InvalidInstanceID.NotFound","#,
            r#""errorMessage":"The instance ID 'i-0123456789abcdef0' does not exist","#,
            r#""requestParameters":{"InstanceId.1":"i-0123456789abcdef0"},"responseElements":null,"#,
            r#""requestID":"11111111-1111-4111-8111-111111111111","eventID":"22222222-2222-4222-8222-222222222222","#,
            r#""readOnly":false,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"123456789012","#,
            r#""eventCategory":"Management"}"#,
            "\n"
        )
    );
}

#[test]
fn a_call_of_nobody_who_is_known() {
    let record = Record {
        claimed_access_key_id: Some("ASIAQABCDEFGHIJKLMNO"),
        error: Some(("InvalidClientTokenId", "The security token included in the request is invalid")),
        ..record()
    };
    assert_eq!(
        text(&record),
        concat!(
            r#"{"eventVersion":"1.11","userIdentity":{"type":"Unknown","accessKeyId":"ASIAQABCDEFGHIJKLMNO"},"#,
            r#""eventTime":"2027-01-15T08:00:00Z","eventSource":"sts.amazonaws.com","#,
            r#""eventName":"GetCallerIdentity","awsRegion":"eu-central-1","sourceIPAddress":"127.0.0.1","#,
            r#""userAgent":"aws-cli/2.31.0","errorCode":"InvalidClientTokenId","#,
            r#""errorMessage":"The security token included in the request is invalid","#,
            r#""requestParameters":null,"responseElements":null,"#,
            r#""requestID":"11111111-1111-4111-8111-111111111111","eventID":"22222222-2222-4222-8222-222222222222","#,
            r#""readOnly":true,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"123456789012","#,
            r#""eventCategory":"Management"}"#,
            "\n"
        )
    );
}

#[test]
fn a_management_session_shows_its_own_role() {
    let (role, role_id) = ("Managed".parse().unwrap(), "AROAQABCDEFGHIJKLMNOP");
    let claims = Claims { delivery: Delivery::V1, ..claims() };
    let principal = Principal::ManagementRole {
        partition: Partition::AwsCn,
        account: account(),
        instance: claims.instance,
        role,
        role_id: role_id.into(),
    };
    let context = serde_json::to_value(SessionContext::of(&principal, &claims)).unwrap();
    assert_eq!(
        context["sessionIssuer"],
        json!({
            "type": "Role",
            "principalId": role_id,
            "arn": "arn:aws-cn:iam::123456789012:role/Managed",
            "accountId": "123456789012",
            "userName": "Managed",
        })
    );
    assert_eq!(context["ec2RoleDelivery"], "1.0");
}

#[test]
fn a_line_is_cut_when_it_is_longer_than_a_line_may_be() {
    let empty = line(&Record { request_parameters: json!({ "a": "" }), ..record() }).len();
    for (length, is_cut) in [(LINE_BYTES_MAX - 1, false), (LINE_BYTES_MAX, false), (LINE_BYTES_MAX + 1, true)] {
        let record = Record { request_parameters: json!({ "a": "x".repeat(length - empty) }), ..record() };
        let bytes = line(&record);
        let done = Record { response_elements: json!(["i-1"]), ..record.clone() };
        let shown: Value = serde_json::from_slice(&line(&done)).unwrap();
        assert_eq!(shown["responseElements"], json!(["i-1"]), "whatever was sent");
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(event["requestParameters"].get("omitted").is_some(), is_cut, "{length}");
        assert_eq!(event["responseElements"], Value::Null);
        assert_eq!(event["userAgent"], if is_cut { "omitted" } else { "aws-cli/2.31.0" });
        assert_eq!(bytes.len() == length, !is_cut);
    }
    let long = "\u{1}".repeat(LINE_BYTES_MAX);
    let facts = TlsFacts { version: "TLSv1.2", cipher_suite: "X".to_owned(), client_certificate: None };
    let worst = Record {
        event_source: &long,
        user_agent: &long,
        error: Some(("Code", &long)),
        tls: Some((&facts, &long)),
        response_elements: json!([long]),
        ..record()
    };
    assert!(line(&worst).len() < 1500);
}

#[test]
fn only_ec2_says_whose_fault_an_error_is() {
    assert_eq!(error_code("ec2.amazonaws.com", "AuthFailure"), "Client.AuthFailure");
    assert_eq!(error_code("ec2.amazonaws.com", "Unavailable"), "Server.Unavailable");
    assert_eq!(error_code("sts.amazonaws.com", "ExpiredToken"), "ExpiredToken");
}

#[test]
fn the_time_of_a_line_is_found_without_reading_it() {
    assert_eq!(super::super::time_of(&line(&record())), Some(TIME));
    let forged = Record { claimed_access_key_id: Some(r#"","eventTime":"2000-01-01T00:00:00Z"#), ..record() };
    assert_eq!(super::super::time_of(&line(&forged)), Some(TIME));
    for text in ["", "\0\0", r#"{"eventTime":"#, r#"{"eventTime":""}"#, r#"{"eventTime":"2027"#] {
        assert_eq!(super::super::time_of(text.as_bytes()), None, "{text}");
    }
}
