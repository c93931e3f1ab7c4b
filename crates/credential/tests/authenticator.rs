//! Who a caller is: every fault of steps 14 to 16, their order, cut-offs, operators and the cache.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it does not expect")]

mod support;

use std::sync::Arc;

use inborn_credential::{
    AuthFault, Authenticator, Caller, Claims, CutOff, Delivery, KeyringError, Kind, Operator, OperatorError, Scope,
    generate_long_lived,
};
use inborn_identity::{AccessKeyId, AccessKeyKind, AccountId, CallerKind, Partition, Principal, UnixTime};
use inborn_sigv4::{Endpoint, Fault, Presented};
use support::{BODY, NOW, STS, Signer, claims, keyring, region, request, sha256};

fn authenticator() -> Authenticator {
    Authenticator::new(Partition::Aws, region(), keyring(&[1], 1)).unwrap()
}

fn signer(claims: &Claims) -> Signer {
    Signer::new(&keyring(&[1], 1).mint(claims).unwrap())
}

fn ask_at(authenticator: &Authenticator, signer: &Signer, now: UnixTime) -> Result<Caller, AuthFault> {
    let signed = Signer { at: now, ..signer.clone() }.sign();
    authenticator.authenticate(&request(&signed.headers()), &sha256(BODY), &STS, now)
}

fn ask(authenticator: &Authenticator, signer: &Signer) -> Result<Caller, AuthFault> {
    ask_at(authenticator, signer, NOW)
}

fn is_signature_fault<T>(result: Result<T, AuthFault>) -> bool {
    matches!(result, Err(AuthFault::Sig(_)))
}

fn operator(name: &str) -> (Operator, Signer) {
    let account = claims().account;
    let (access_key_id, secret) = generate_long_lived(account).unwrap();
    let user_id = "AIDAEXAMPLEEXAMPLE234".into();
    let principal =
        Principal::Operator { partition: Partition::Aws, account, name: name.into(), user_id, access_key_id };
    let signer = Signer {
        access_key_id: access_key_id.to_string(),
        secret: secret.expose().into(),
        token: None,
        ..signer(&claims())
    };
    (Operator { principal, secret }, signer)
}

#[test]
fn an_instance_is_recognised() {
    let authenticator = authenticator();
    let caller = ask(&authenticator, &signer(&claims())).unwrap();
    assert_eq!(caller.principal.arn(), "arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0");
    assert_eq!(caller.claims.as_deref(), Some(&claims()));
    assert_eq!(caller.access_key_id.as_str(), signer(&claims()).access_key_id);
    for (name, is_covered) in [("host", true), ("x-amz-security-token", true), ("user-agent", false), ("", false)] {
        assert_eq!(caller.signed.covers(name.as_bytes()), is_covered, "{name}");
    }
}

#[test]
fn a_management_role_is_recognised() {
    let kind = Kind::Management { role: "Managed".parse().unwrap(), role_id: "AROAEXAMPLEEXAMPLE234".into() };
    let caller = ask(&authenticator(), &signer(&Claims { kind, ..claims() })).unwrap();
    assert_eq!(caller.principal.kind(), CallerKind::ManagementRole);
    assert_eq!(caller.principal.arn(), "arn:aws:sts::123456789012:assumed-role/Managed/i-0123456789abcdef0");
    assert_eq!(caller.principal.user_id(), "AROAEXAMPLEEXAMPLE234:i-0123456789abcdef0");
}

#[test]
fn warm_answers_are_the_cold_ones() {
    let authenticator = authenticator();
    let cold = ask(&authenticator, &signer(&claims()));
    assert_eq!(ask(&authenticator, &signer(&claims())), cold);
    let wrong = Signer { secret: "A".repeat(40), ..signer(&claims()) };
    assert!(is_signature_fault(ask(&authenticator, &wrong)));
    assert_eq!(ask(&authenticator, &signer(&claims())), cold);
}

#[test]
fn a_wrong_secret_is_a_wrong_signature() {
    let wrong = Signer { secret: "A".repeat(40), ..signer(&claims()) };
    assert!(is_signature_fault(ask(&authenticator(), &wrong)));
}

#[test]
fn the_form_and_the_scope_come_before_the_token() {
    let signer = Signer { token: Some("broken".into()), ..signer(&claims()) };
    let authenticator = authenticator();
    assert_eq!(ask(&authenticator, &signer), Err(AuthFault::TokenInvalid));
    assert!(is_signature_fault(ask(&authenticator, &Signer { service: "ssm".into(), ..signer.clone() })));
    assert!(is_signature_fault(ask(&authenticator, &Signer { region: "eu-west-1".into(), ..signer.clone() })));
    let signed = signer.sign();
    let late = authenticator.authenticate(&request(&signed.headers()), &sha256(BODY), &STS, NOW.plus(901));
    assert!(is_signature_fault(late));
    let unsigned = authenticator.authenticate(&request(&[]), &sha256(BODY), &STS, NOW);
    assert_eq!(unsigned, Err(AuthFault::Sig(Fault::MissingAuthentication)));
}

/// Where the number of the epoch stands in a token: bytes 3 to 6, in base64url.
const EPOCH_CHARACTERS: core::ops::Range<usize> = 4..10;

#[test]
fn every_changed_character_of_a_token_is_refused_cold_and_warm() {
    let authenticator = authenticator();
    let signer = signer(&claims());
    let token = signer.token.clone().unwrap();
    for is_warm in [false, true] {
        for index in 0..token.len() {
            let other = if &token[index..=index] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &token[..index], &token[index + 1..]);
            let changed = Signer { token: Some(changed), ..signer.clone() };
            // What says that an epoch before all that are left has sealed it is told to be over, so that machines fetch anew.
            let is_of_epoch = EPOCH_CHARACTERS.contains(&index);
            let refusal = ask(&authenticator, &changed).unwrap_err();
            let is_right = refusal == AuthFault::TokenInvalid || is_of_epoch && refusal == AuthFault::TokenExpired;
            assert!(is_right, "{is_warm} {index}: {refusal:?}");
        }
        ask(&authenticator, &signer).unwrap();
    }
}

#[test]
fn a_token_with_another_key_id_is_invalid_cold_and_warm() {
    let (one, two) = (signer(&claims()), signer(&Claims { delivery: Delivery::V1, ..claims() }));
    let authenticator = authenticator();
    let swapped = Signer { token: two.token.clone(), ..one.clone() };
    assert_eq!(ask(&authenticator, &swapped), Err(AuthFault::TokenInvalid));
    ask(&authenticator, &one).unwrap();
    ask(&authenticator, &two).unwrap();
    assert_eq!(ask(&authenticator, &swapped), Err(AuthFault::TokenInvalid));
}

#[test]
fn keys_that_are_not_known() {
    let authenticator = authenticator();
    let (one, known) = operator("one");
    let (_, unknown) = operator("two");
    authenticator.set_operators(vec![one]).unwrap();
    let no_token = Signer { token: None, ..signer(&claims()) };
    assert_eq!(ask(&authenticator, &no_token), Err(AuthFault::UnknownKey));
    ask(&authenticator, &signer(&claims())).unwrap();
    assert_eq!(ask(&authenticator, &no_token), Err(AuthFault::UnknownKey));
    assert_eq!(ask(&authenticator, &unknown), Err(AuthFault::UnknownKey));
    for text in ["", "AKIA", "nonsense", "ASIA52GPOBQCD6DF76F1"] {
        let odd = Signer { access_key_id: text.into(), ..known.clone() };
        let fault = ask(&authenticator, &odd);
        assert!(fault == Err(AuthFault::UnknownKey) || is_signature_fault(fault), "{text}");
    }
}

#[test]
fn an_operator_is_recognised_and_no_token_helps() {
    let authenticator = authenticator();
    let (one, signer_of_one) = operator("one");
    let (two, signer_of_two) = operator("two");
    authenticator.set_operators(vec![one.clone(), two]).unwrap();
    for _ in 0..2 {
        let caller = ask(&authenticator, &signer_of_one).unwrap();
        assert_eq!((caller.principal, caller.claims), (one.principal.clone(), None));
        let mixed = Signer { secret: signer_of_two.secret.clone(), ..signer_of_one.clone() };
        assert!(is_signature_fault(ask(&authenticator, &mixed)));
        let with_token = Signer { token: signer(&claims()).token, ..signer_of_one.clone() };
        assert_eq!(ask(&authenticator, &with_token), Err(AuthFault::TokenInvalid));
        assert!(ask(&authenticator, &signer_of_two).is_ok());
    }
    authenticator.set_operators(vec![]).unwrap();
    assert_eq!(ask(&authenticator, &signer_of_one), Err(AuthFault::UnknownKey));
}

/// Regions of one deployment.
#[test]
fn a_region_knows_its_own_tokens_and_shares_its_operators() {
    let home = authenticator();
    let elsewhere = Claims { region: "eu-west-1".parse().unwrap(), ..claims() };
    // The same epochs by mistake, and epochs of its own with the same number's neighbour.
    let twin = home.beside(elsewhere.region.clone(), keyring(&[1], 1)).unwrap();
    let apart = home.beside(elsewhere.region.clone(), keyring(&[2], 2)).unwrap();
    let own = signer(&claims());
    let of_twin = signer(&elsewhere);
    let of_apart = Signer::new(&keyring(&[2], 2).mint(&elsewhere).unwrap());
    let issued = |by: &Authenticator, signer: &Signer| {
        by.has_issued(&signer.access_key_id, signer.token.as_deref().unwrap().as_bytes())
    };
    for is_warm in [false, true] {
        for (by, expected) in
            [(&home, [true, false, false]), (&twin, [false, true, false]), (&apart, [false, false, true])]
        {
            assert_eq!([&own, &of_twin, &of_apart].map(|signer| issued(by, signer)), expected, "{is_warm}");
        }
        // From here on they are remembered.
        for (by, signer) in [(&home, &own), (&twin, &of_twin), (&apart, &of_apart)] {
            ask(by, signer).unwrap();
        }
    }
    let swapped = Signer { access_key_id: of_twin.access_key_id.clone(), ..own.clone() };
    assert!(!issued(&home, &swapped) && !issued(&twin, &swapped));
    assert!(!home.has_issued("", b"") && !home.has_issued(&own.access_key_id, b"inb1"));

    let (one, known) = operator("one");
    twin.set_operators(vec![one]).unwrap();
    for authenticator in [&home, &twin, &apart] {
        assert!(ask(authenticator, &known).is_ok());
    }
    home.set_operators(vec![]).unwrap();
    for authenticator in [&home, &twin, &apart] {
        assert_eq!(ask(authenticator, &known), Err(AuthFault::UnknownKey));
    }
    // Cut-offs are each one's own.
    home.cut_off(CutOff::IssuedBefore { scope: Scope::All, before: NOW.plus(1) }, NOW);
    assert_eq!(ask(&home, &own), Err(AuthFault::TokenExpired));
    assert!(ask(&twin, &of_twin).is_ok());
}

#[test]
fn operators_that_cannot_be() {
    let authenticator = authenticator();
    let (one, signer_of_one) = operator("one");
    authenticator.set_operators(vec![one.clone()]).unwrap();
    let account = claims().account;
    let with = |partition, kind| {
        let access_key_id = AccessKeyId::new(kind, account, 7);
        let (name, user_id) = ("x".into(), "AIDAX".into());
        let principal = Principal::Operator { partition, account, name, user_id, access_key_id };
        authenticator.set_operators(vec![Operator { principal, secret: one.secret.clone() }])
    };
    let id = AccessKeyId::new(AccessKeyKind::LongLived, account, 7);
    assert_eq!(with(Partition::AwsCn, AccessKeyKind::LongLived), Err(OperatorError::Partition(id)));
    assert_eq!(with(Partition::Aws, AccessKeyKind::Temporary), Err(OperatorError::Kind));
    let instance = Principal::IdentityRole { partition: Partition::Aws, account, instance: claims().instance };
    let no_operator = Operator { principal: instance, secret: one.secret.clone() };
    assert_eq!(authenticator.set_operators(vec![no_operator]), Err(OperatorError::Kind));
    let twice = authenticator.set_operators(vec![one.clone(), one.clone()]);
    assert!(matches!(twice, Err(OperatorError::Twice(_))));
    assert!(ask(&authenticator, &signer_of_one).is_ok(), "a refused change changes nothing");
}

#[test]
fn a_credential_ends_at_its_expiration_to_the_second() {
    let authenticator = authenticator();
    let signer = signer(&claims());
    let end = claims().expires_at;
    for _ in 0..2 {
        assert!(ask_at(&authenticator, &signer, end.minus(1)).is_ok());
        assert_eq!(ask_at(&authenticator, &signer, end), Err(AuthFault::TokenExpired));
        assert_eq!(ask_at(&authenticator, &signer, end.plus(1)), Err(AuthFault::TokenExpired));
    }
}

#[test]
fn a_credential_from_the_future_is_good_within_the_skew() {
    let authenticator = authenticator();
    for (ahead, is_good) in [(0, true), (899, true), (900, true), (901, false)] {
        let issued_at = NOW.plus(ahead);
        let from_ahead = signer(&Claims { issued_at, expires_at: issued_at.plus(21_600), ..claims() });
        let expected = if is_good { None } else { Some(AuthFault::TokenInvalid) };
        assert_eq!(ask(&authenticator, &from_ahead).err(), expected, "{ahead}");
    }
}

#[test]
fn a_credential_of_another_region_is_invalid() {
    let elsewhere = signer(&Claims { region: "eu-west-1".parse().unwrap(), ..claims() });
    assert_eq!(ask(&authenticator(), &elsewhere), Err(AuthFault::TokenInvalid));
    let endpoint = Endpoint { regions: &["eu-west-1", "us-east-1"], ..STS };
    let signed = Signer { region: "eu-west-1".into(), ..elsewhere }.sign();
    let result = authenticator().authenticate(&request(&signed.headers()), &sha256(BODY), &endpoint, NOW);
    assert_eq!(result, Err(AuthFault::TokenInvalid));
}

#[test]
fn a_second_region_name_of_an_endpoint_is_a_scope_like_the_first() {
    let authenticator = Authenticator::new(Partition::Aws, "eu-west-1".parse().unwrap(), keyring(&[1], 1)).unwrap();
    let of_there = signer(&Claims { region: "eu-west-1".parse().unwrap(), ..claims() });
    let endpoint = Endpoint { regions: &["eu-west-1", "us-east-1"], ..STS };
    for region in ["eu-west-1", "us-east-1", "eu-west-1"] {
        let signed = Signer { region: region.into(), ..of_there.clone() }.sign();
        let result = authenticator.authenticate(&request(&signed.headers()), &sha256(BODY), &endpoint, NOW);
        assert!(result.is_ok(), "{region}");
    }
}

#[test]
fn cut_offs_reach_what_is_remembered() {
    let instance = claims().instance;
    let cases = [
        (CutOff::Dead { instance }, AuthFault::UnknownKey),
        (CutOff::OlderBoot { instance, below: 4 }, AuthFault::TokenExpired),
        (CutOff::IssuedBefore { scope: Scope::Instance(instance), before: NOW }, AuthFault::TokenExpired),
        (CutOff::IssuedBefore { scope: Scope::Account(claims().account), before: NOW }, AuthFault::TokenExpired),
        (CutOff::IssuedBefore { scope: Scope::All, before: NOW }, AuthFault::TokenExpired),
    ];
    for (cut_off, fault) in cases {
        for is_warm in [false, true] {
            let authenticator = authenticator();
            let signer = signer(&claims());
            if is_warm {
                ask(&authenticator, &signer).unwrap();
            }
            authenticator.cut_off(cut_off, NOW);
            assert_eq!(ask(&authenticator, &signer), Err(fault.clone()), "{cut_off:?} {is_warm}");
            let other = Claims {
                instance: "i-00000000000000001".parse().unwrap(),
                account: AccountId::new(1).unwrap(),
                issued_at: NOW,
                ..claims()
            };
            assert!(ask(&authenticator, &self::signer(&other)).is_ok(), "{cut_off:?}");
        }
    }
}

#[test]
fn a_dead_instance_is_unknown_until_its_credential_expires_and_expired_after() {
    let authenticator = authenticator();
    let signer = signer(&claims());
    authenticator.cut_off(CutOff::IssuedBefore { scope: Scope::All, before: NOW }, NOW);
    authenticator.cut_off(CutOff::Dead { instance: claims().instance }, NOW);
    assert_eq!(ask(&authenticator, &signer), Err(AuthFault::UnknownKey));
    assert_eq!(ask_at(&authenticator, &signer, claims().expires_at), Err(AuthFault::TokenExpired));
    let much_later = NOW.plus(100_000);
    authenticator.forget(much_later);
    assert_eq!(ask_at(&authenticator, &signer, much_later), Err(AuthFault::TokenExpired));
}

#[test]
fn epochs_come_and_go() {
    let authenticator = authenticator();
    let of_first = signer(&claims());
    let of_second = Signer::new(&keyring(&[2], 2).mint(&claims()).unwrap());
    assert!(ask(&authenticator, &of_first).is_ok());
    assert_eq!(ask(&authenticator, &of_second), Err(AuthFault::TokenInvalid));
    authenticator.set_keyring(keyring(&[1, 2], 2)).unwrap();
    assert!(ask(&authenticator, &of_first).is_ok());
    assert!(ask(&authenticator, &of_second).is_ok());
    authenticator.set_keyring(keyring(&[2], 2)).unwrap();
    assert_eq!(ask(&authenticator, &of_first), Err(AuthFault::TokenExpired), "a retired epoch, although remembered");
    assert!(ask(&authenticator, &of_second).is_ok());
}

#[test]
fn a_keyring_of_another_partition_is_refused() {
    let foreign = Authenticator::new(Partition::AwsCn, region(), keyring(&[1], 1));
    assert_eq!(foreign.err(), Some(KeyringError::Partition));
}

#[test]
fn no_debug_output_holds_a_secret() {
    let authenticator = authenticator();
    let (one, signer_of_one) = operator("one");
    authenticator.set_operators(vec![one.clone()]).unwrap();
    let signer = signer(&claims());
    let caller = ask(&authenticator, &signer).unwrap();
    let fault = ask(&authenticator, &Signer { secret: "A".repeat(40), ..signer.clone() }).unwrap_err();
    let shown = format!("{one:?} {caller:?} {fault:?} {fault} {authenticator:?}");
    for secret in [&signer.secret, &signer_of_one.secret, signer.token.as_ref().unwrap()] {
        assert!(!shown.contains(secret.as_str()));
    }
}

#[test]
fn threads_agree() {
    let authenticator = Arc::new(authenticator());
    let signers: Vec<_> = (0..20).map(|boot_generation| signer(&Claims { boot_generation, ..claims() })).collect();
    authenticator.cut_off(CutOff::OlderBoot { instance: claims().instance, below: 10 }, NOW);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (boot_generation, signer) in signers.iter().enumerate() {
                    assert_eq!(ask(&authenticator, signer).is_ok(), boot_generation >= 10);
                }
            });
        }
    });
}

/// The head of a request is read before its body arrives. What was read for one place is not good at another.
#[test]
fn a_request_that_was_read_before() {
    let authenticator = authenticator();
    let signed = signer(&claims()).sign();
    let headers = signed.headers();
    let request = request(&headers);
    let presented = Presented::accept(&request, &STS, NOW).unwrap();
    let ask = |endpoint: &Endpoint<'_>, body: &[u8], now: UnixTime| {
        authenticator.authenticate_presented(&presented, &request, &sha256(body), endpoint, now)
    };
    assert_eq!(ask(&STS, BODY, NOW), authenticator.authenticate(&request, &sha256(BODY), &STS, NOW));
    assert!(ask(&STS, BODY, NOW).is_ok());
    assert_eq!(ask(&STS, b"other", NOW), Err(AuthFault::Sig(Fault::SignatureMismatch)));
    assert!(matches!(ask(&STS, BODY, NOW.plus(901)), Err(AuthFault::Sig(Fault::Expired { .. }))));
    let ssm = Endpoint { service: "ssm", ..STS };
    assert!(matches!(ask(&ssm, BODY, NOW), Err(AuthFault::Sig(Fault::Scope(_)))));
}
