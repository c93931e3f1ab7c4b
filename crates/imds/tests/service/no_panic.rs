//! No request whatever makes the service panic, and none gets what it must not have.

use inborn_identity::HttpTokens;
use inborn_imds::{Request, View, identity_document, respond};
use proptest::prelude::*;

use crate::lab::{Lab, NOW, full_lab, managed_keys};

fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        Just(b"x-aws-ec2-metadata-token".to_vec()),
        Just(b"x-aws-ec2-metadata-token-ttl-seconds".to_vec()),
        Just(b"x-forwarded-for".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..12),
    ];
    let value = prop_oneof![
        Just(b"60".to_vec()),
        Just(full_lab().token(60).into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..70)
    ];
    (name, value)
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let segment = prop_oneof![
        "(latest|1.0|2021-07-15|meta-data|dynamic|user-data|tags|instance|public-keys|0|api|token|%4|%00|\\.\\.|)"
            .prop_map(String::into_bytes),
        "(identity-credentials|ec2|security-credentials|ec2-instance|info|instance-id)".prop_map(String::into_bytes),
        "(network|interfaces|macs|02:29:96:8f:6a:2d|02%3A29:96:8f:6a:2d|interface-id|vpc-id|placement|fws)"
            .prop_map(String::into_bytes),
        "(managed-ssh-keys|active-keys|root|a.user%40realm|signer-cert|signer-ocsp)".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    prop_oneof![
        proptest::collection::vec(segment, 0..7)
            .prop_map(|segments| segments.into_iter().flat_map(|segment| [b"/".to_vec(), segment].concat()).collect()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_request_is_answered(
        method in "(GET|HEAD|PUT|OPTIONS|POST|\\PC{0,6})",
        path in path(),
        headers in proptest::collection::vec(header(), 0..4),
        required: bool,
    ) {
        let lab: Lab = full_lab();
        let document = identity_document(lab.instance, &lab.facts);
        let managed = managed_keys();
        let mut options = lab.options;
        options.http_tokens = if required { HttpTokens::Required } else { HttpTokens::Optional };
        let view = View {
            instance: lab.instance,
            options,
            tags: &lab.tags,
            facts: &lab.facts,
            document: &document,
            signatures: lab.signatures.as_ref(),
            credentials: lab.credentials.as_ref(),
            is_withheld: false,
            managed_keys: managed.at(NOW),
        };
        let response = respond(&Request { method: &method, path: &path, headers: &headers }, &view, &lab.key, NOW);
        prop_assert!([200, 400, 401, 403, 404, 405].contains(&response.status));
        prop_assert_eq!(response.close, response.hop_limit.is_some());
        let mut text = String::new();
        response.for_each_header(|name, value| text.push_str(&format!("{name}: {value}\n")));
        prop_assert!(text.is_ascii());
        if required && matches!(method.as_str(), "GET" | "HEAD") && response.status == 200 {
            prop_assert!(response.token_ttl.is_some());
        }
        if response.delivery.is_some() {
            prop_assert_eq!((response.status, method.as_str()), (200, "GET"));
        }
    }
}
