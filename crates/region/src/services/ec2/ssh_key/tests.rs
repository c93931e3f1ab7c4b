use super::*;

#[test]
fn what_is_no_key_is_refused_as_ec2_does() {
    for material in [&b""[..], b"ssh-rsa AAAA", b"\xff", &[b'x'; inborn_ssh::IMPORT_BYTES_MAX + 1]] {
        match read(material, "laptop") {
            Err(Problem::Service { status: 400, code: "InvalidKey.Format", .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_made_ed25519_key_is_whole() {
    let made = make(KeyType::Ed25519, "laptop").unwrap();
    assert!(made.private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
    let private = PrivateKey::from_openssh(made.private.as_bytes()).unwrap();
    assert_eq!(private.public_key().to_openssh().unwrap(), made.public.line);
    assert!(made.public.line.starts_with("ssh-ed25519 AAAA") && made.public.line.ends_with(" laptop"));
    assert_eq!(read(made.public.line.as_bytes(), "laptop").unwrap().fingerprint, made.public.fingerprint);
    assert_ne!(make(KeyType::Ed25519, "laptop").unwrap().public.line, made.public.line);
}

#[test]
fn a_made_rsa_key_is_whole() {
    let made = make(KeyType::Rsa, "laptop").unwrap();
    let lines: Vec<&str> = made.private.lines().collect();
    let [first, body @ .., last] = lines.as_slice() else { panic!() };
    assert_eq!((*first, *last), ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"));
    assert!(body.iter().all(|line| line.len() <= PEM_LINE));
    let pair = RsaKeyPair::from_der(&BASE64.decode(body.concat()).unwrap()).unwrap();
    assert_eq!(pair.public_modulus_len() * 8, 2048);
    let read = super::read(made.public.line.as_bytes(), "laptop").unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let public = BASE64.encode(der.as_ref());
    assert_eq!(read, super::read(public.as_bytes(), "laptop").unwrap(), "both halves are of one pair");
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    assert_eq!(made.public.fingerprint, colons(digest(&SHA1_FOR_LEGACY_USE_ONLY, pkcs8.as_ref()).as_ref()));
    assert_eq!(made.public.fingerprint.len(), 59);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = inside_pkcs8(&bytes);
    }
}
