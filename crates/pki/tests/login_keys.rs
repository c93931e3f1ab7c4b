//! A guest's side of signed SSH keys: what is believed, and that nothing else is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use std::sync::LazyLock;

use inborn_identity::{Region, UnixTime};
use inborn_pki::{Authority, InstanceConnectSigner, LoginKeysError, LoginKeysRoot, LoginKeysSigner};
use proptest::prelude::*;
use rcgen::{CidrSubnet, GeneralSubtree};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const DAY: u64 = 86_400;
const NAME: &str = "managed-ssh-signer.us-east-1.amazonaws.com";
const LINES: &str = "#Timestamp=1800000060\n#Instance=i-0123456789abcdef0\nssh-ed25519 AAAA a\n";

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

/// Takes long in a build without optimisation: made once.
static SIGNER: LazyLock<InstanceConnectSigner> =
    LazyLock::new(|| InstanceConnectSigner::create(&region(), "amazonaws.com", NOW).unwrap().0);
static OTHER: LazyLock<InstanceConnectSigner> =
    LazyLock::new(|| InstanceConnectSigner::create(&region(), "amazonaws.com", NOW).unwrap().0);

fn root() -> LoginKeysRoot {
    LoginKeysRoot::from_pem(SIGNER.root_pem().as_bytes()).unwrap()
}

fn staples(signer: &InstanceConnectSigner, at: UnixTime) -> Vec<String> {
    signer.staples(at).unwrap().into_iter().map(|staple| staple.response).collect()
}

fn trusted(at: UnixTime) -> Result<LoginKeysSigner, LoginKeysError> {
    root().follow(SIGNER.chain_pem(), None, at)?.proven_by(&staples(&SIGNER, NOW), at)
}

#[test]
fn what_the_signer_signs_is_believed_and_nothing_else() {
    let signer = trusted(NOW).unwrap();
    let signature = SIGNER.sign(LINES).unwrap();
    signer.verify(LINES, &signature).unwrap();
    let in_lines = format!("{}\n{}", &signature[..76], &signature[76..]);
    signer.verify(LINES, &in_lines).unwrap();
    for (lines, signature) in [
        (LINES.trim_end(), signature.as_str()),
        (&LINES.replace("60\n", "61\n"), &signature),
        (LINES, &OTHER.sign(LINES).unwrap()),
        (LINES, ""),
        (LINES, "!"),
        (LINES, &signature[..340]),
    ] {
        assert!(matches!(signer.verify(lines, signature), Err(LoginKeysError::Signature)), "{lines} {signature}");
    }
}

#[test]
fn staples_have_the_names_that_are_asked_for() {
    let names: Vec<String> = SIGNER.staples(NOW).unwrap().into_iter().map(|staple| staple.fingerprint).collect();
    assert_eq!(root().follow(SIGNER.chain_pem(), None, NOW).unwrap().staple_names(), names);
}

#[test]
fn a_chain_leads_to_the_root_or_nowhere() {
    let follow = |chain: &str, name: Option<&str>, at| root().follow(chain, name, at).map(|_| ());
    let leaf = SIGNER.chain_pem().replace(SIGNER.root_pem(), "");
    follow(&leaf, None, NOW).unwrap();
    follow(SIGNER.chain_pem(), Some(NAME), NOW).unwrap();
    let other = follow(SIGNER.chain_pem(), Some("managed-ssh-signer.eu-west-1.amazonaws.com"), NOW);
    assert!(matches!(other, Err(LoginKeysError::OtherName(_))));
    assert!(matches!(follow(OTHER.chain_pem(), None, NOW), Err(LoginKeysError::Untrusted(_))));
    assert!(matches!(follow(SIGNER.chain_pem(), None, NOW.plus(91 * DAY)), Err(LoginKeysError::Untrusted(_))));
    assert!(matches!(follow(SIGNER.chain_pem(), None, NOW.minus(2 * DAY)), Err(LoginKeysError::Untrusted(_))));
    for chain in
        ["", "x", SIGNER.root_pem(), &format!("{leaf}-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")]
    {
        assert!(matches!(follow(chain, None, NOW), Err(LoginKeysError::Chain)), "{chain}");
    }
    let (four, five) = (leaf.clone() + &OTHER.root_pem().repeat(3), leaf.clone() + &OTHER.root_pem().repeat(4));
    follow(&four, None, NOW).unwrap();
    assert!(matches!(follow(&five, None, NOW), Err(LoginKeysError::Chain)));
}

#[test]
fn a_root_that_may_speak_for_everybody_needs_the_signers_name() {
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let mail = || GeneralSubtree::Rfc822Name("example.com".to_owned());
    let address = || GeneralSubtree::IpAddress(CidrSubnet::V4([10, 0, 0, 0], [255, 0, 0, 0]));
    for (permitted, excluded, is_constrained) in [
        (vec![], vec![], false),
        // What is not excluded, or is permitted of something else, is anybody's name.
        (vec![], vec![dns("example.com")], false),
        (vec![address()], vec![], false),
        (vec![mail()], vec![], false),
        (vec![dns("")], vec![], false),
        (vec![dns(NAME), dns("")], vec![], false),
        (vec![dns(NAME)], vec![], true),
        (vec![address(), dns(NAME)], vec![mail()], true),
    ] {
        let case = format!("{permitted:?} {excluded:?}");
        let (root, _) = root_of(permitted, excluded);
        let followed = root.follow(SIGNER.chain_pem(), None, NOW);
        let is_nameless = matches!(followed, Err(LoginKeysError::NoName));
        assert_eq!(is_nameless, !is_constrained, "{case}");
        assert!(
            matches!(root.follow(SIGNER.chain_pem(), Some(NAME), NOW), Err(LoginKeysError::Untrusted(_))),
            "{case}"
        );
    }
}

/// A root with such constraints, and who may sign with its key.
fn root_of(
    permitted: Vec<GeneralSubtree>,
    excluded: Vec<GeneralSubtree>,
) -> (LoginKeysRoot, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    if !(permitted.is_empty() && excluded.is_empty()) {
        params.name_constraints =
            Some(rcgen::NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
    }
    let pem = params.self_signed(&key).unwrap().pem();
    (LoginKeysRoot::from_pem(pem.as_bytes()).unwrap(), rcgen::Issuer::new(params, key))
}

/// Constraints of names are kept by every certificate that has none.
#[test]
fn a_signer_without_a_name_is_nobody() {
    let (root, issuer) = root_of(vec![GeneralSubtree::DnsName(NAME.to_owned())], vec![]);
    let chain = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        params.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap().pem()
    };
    for (names, refused) in [
        (&[][..], "the signer's certificate says no name"),
        (&["10.1.2.3"], "the signer's certificate says no name"),
        (
            &["sts.amazonaws.com"],
            "the signer's certificate does not lead to the root that is trusted here: NameConstraintViolation",
        ),
    ] {
        assert_eq!(root.follow(&chain(names), None, NOW).map(drop).unwrap_err().to_string(), refused, "{names:?}");
    }
    root.follow(&chain(&[NAME]), None, NOW).unwrap();
}

#[test]
fn what_is_no_root_is_none() {
    for pem in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(LoginKeysRoot::from_pem(pem.as_bytes()), Err(LoginKeysError::Root)), "{pem}");
    }
}

/// The authority of the endpoints has nothing to say of keys, though a guest may trust it for TLS.
#[test]
fn the_authority_of_the_endpoints_signs_no_keys() {
    let (authority, _) = Authority::create(&region(), "amazonaws.com", NOW).unwrap();
    let root = LoginKeysRoot::from_pem(authority.certificate_pem().as_bytes()).unwrap();
    assert!(matches!(root.follow(SIGNER.chain_pem(), None, NOW), Err(LoginKeysError::Untrusted(_))));
}

#[test]
fn without_a_staple_of_its_own_and_of_now_a_signer_is_not_believed() {
    let prove = |staples: &[String], at: UnixTime| {
        let proven = root().follow(SIGNER.chain_pem(), None, at).unwrap().proven_by(staples, at);
        proven.map(|_| ()).map_err(|error| error.to_string())
    };
    let good = staples(&SIGNER, NOW);
    prove(&good, NOW).unwrap();
    prove(&good, NOW.plus(7 * DAY - 1)).unwrap();
    for (staples, at, why) in [
        (vec![], NOW, "there is no staple"),
        (vec![good[0].clone(); 2], NOW, "there is no staple"),
        (vec!["!".to_owned()], NOW, "not base64"),
        (vec![String::new()], NOW, "no successful OCSP response"),
        (vec!["MAMKAQY=".to_owned()], NOW, "no successful OCSP response"),
        (staples(&OTHER, NOW), NOW, "not signed by the issuer"),
        (good.clone(), NOW.plus(7 * DAY), "not of this time"),
        (staples(&SIGNER, NOW.plus(10 * DAY)), NOW, "not of this time"),
    ] {
        let said = prove(&staples, at).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    let (renewed, _) = SIGNER.renewed(&region(), "amazonaws.com", NOW.plus(60 * DAY)).unwrap().unwrap();
    let said = prove(&staples(&renewed, NOW), NOW).unwrap_err();
    assert!(said.contains("that of another certificate"), "{said}");
}

#[test]
fn one_bit_of_a_staple_changes_everything() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    // Signatures differ each time. One that ends in a 0 bit could also be written as a string that leaves this bit out.
    let mut made = std::iter::repeat_with(|| STANDARD.decode(&staples(&SIGNER, NOW)[0]).unwrap());
    let good = made.find(|der| der.last().unwrap() & 1 == 0).unwrap();
    let root = root();
    for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut der = good.clone();
        der[at] ^= 1 << bit;
        let chain = root.follow(SIGNER.chain_pem(), None, NOW).unwrap();
        let around = &good[at.saturating_sub(4)..(at + 4).min(good.len())];
        assert!(chain.proven_by(&[STANDARD.encode(&der)], NOW).is_err(), "bit {bit} at {at}: {around:02x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
        use base64::Engine;
        let _ = LoginKeysRoot::from_pem(&bytes);
        let _ = root().follow(&text, None, NOW);
        let root = root();
        let chain = root.follow(SIGNER.chain_pem(), None, NOW).unwrap();
        let staple = base64::engine::general_purpose::STANDARD.encode(bytes);
        prop_assert!(chain.proven_by(&[staple], NOW).is_err());
    }
}
