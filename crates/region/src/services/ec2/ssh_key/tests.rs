use super::*;

/// Made by `ssh-keygen`; the fingerprints are those of `openssl md5 -c` over the DER form, and of `ssh-keygen -l`.
const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC4YuVwAbkfVN+OYNOseRTj+BlTX+V70ZrQ5Ay+XtOLlk4zZocxiITasHxW\
    zQSwdOMb9WUe8pxyCLy2VIZUYoSjSif45t5MBMAFdk6Z2o6FEZC9axwKLfGhn+RbR8cXhw5AkqZJhoDxmbrjQ31korUwbg14\
    gjVQKSeDjY9dLD3DUw==";
const RSA_1024_BODY: &str = "AAAAB3NzaC1yc2EAAAADAQABAAAAgQC4YuVwAbkfVN+OYNOseRTj+BlTX+V70ZrQ5Ay+XtOLlk4zZocxiITasHxWzQSwdOMb\
    9WUe8pxyCLy2VIZUYoSjSif45t5MBMAFdk6Z2o6FEZC9axwKLfGhn+RbR8cXhw5AkqZJhoDxmbrjQ31korUwbg14gjVQKSeD\
    jY9dLD3DUw==";
const RSA_1024_DER: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC4YuVwAbkfVN+OYNOseRTj+BlTX+V70ZrQ5Ay+XtOLlk4zZocxiITasHxW\
    zQSwdOMb9WUe8pxyCLy2VIZUYoSjSif45t5MBMAFdk6Z2o6FEZC9axwKLfGhn+RbR8cXhw5AkqZJhoDxmbrjQ31korUwbg14\
    gjVQKSeDjY9dLD3DUwIDAQAB";
const RSA_1024_MD5: &str = "36:8a:bf:74:96:8a:c4:f0:bd:cf:76:2f:2f:ff:22:9d";
const RSA_3072: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDR3NNBSxH7qki3IdjRh4KwvTzLJ1OuIc7B7rEZO8AYQQ9nzFbVDgRSb2pV\
    NlLtn0nVfkO1YTBZb4QeGobxlpUg+mE6isiu+Gl7uBugNAP7Sv2LExIO1gdiXF9lplo3Ej+JpNO5LwX7MUfAPG5rmFd+GeOw\
    jbNZG/IH0LPIOe55S93MuFKiBZGPr5XYZ0w8WwXwQJIPfKRbWYfqdTb120Jl4UZRHGOrHuxXJPk5TUqzqyPgt+IJjwJBO2cT\
    0b2nW0NiBVxhsU9IlVVsqHNpxyZJIqgxP5si/8FKB8HjCKkwrxOJLNkA2Ct20p/0U6EcTq2mgSrx8mBAqaDQEV4uHhWZahUT\
    k+1ZUl8WyoClCjZUBtg82u26U6QBmC7T4QJ1JGkQogbNNgwXUjIEfX8pzjVQI38TBrypeCFM7aFD810nAPfmZH5nBicr5kXA\
    os8w5mg2rZZK+Jge9duUb6NVwl7IfIq1qc+RdXwaN21kyUdji6pS8cvGVH+CWvTqdBSVeE8=";
const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOlTJMJoDD/x7uYfsWCFnQM8dlDxnG0oApd4x8YdNw8H me@host";

fn refused(material: &[u8]) -> &'static str {
    match read(material, "laptop") {
        Err(Problem::Service { status: 400, code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_imported_with_the_fingerprints_of_ec2() {
    let ed25519 = read(ED25519.as_bytes(), "laptop").unwrap();
    assert_eq!(ed25519.key_type, KeyType::Ed25519);
    assert_eq!(ed25519.fingerprint, "HgGVOaYhaLeH4IccPXp2maF1egAfDVaFC3ASYZUgmao=");
    assert_eq!(ed25519.line, ED25519.replace("me@host", "laptop"));

    let rfc4716 = format!(
        "{RFC4716_BEGIN}\r\nComment: \"1024-bit \\\r\nRSA\"\r\n{}\r\n{}\r\n{RFC4716_END}\r\n",
        &RSA_1024_BODY[..70],
        &RSA_1024_BODY[70..]
    );
    for material in [RSA_1024, &format!("{RSA_1024} a comment with blanks\n"), &rfc4716, RSA_1024_DER] {
        let rsa = read(material.as_bytes(), "laptop").unwrap();
        assert_eq!((rsa.key_type, rsa.fingerprint.as_str()), (KeyType::Rsa, RSA_1024_MD5), "{material}");
        assert_eq!(rsa.line, format!("{RSA_1024} laptop"));
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let truncated = &RSA_1024[..RSA_1024.len() - 8];
    let no_end = format!("{RFC4716_BEGIN}\n{RSA_1024_BODY}\n");
    let trailing = format!("{RFC4716_BEGIN}\n{RSA_1024_BODY}\n{RFC4716_END}\nmore");
    let of_another_type = ED25519.replace("ssh-ed25519", "ssh-rsa");
    let two = format!("{ED25519}\n{ED25519}");
    for material in [
        "",
        "ssh-rsa",
        "ssh-rsa AAAA",
        "hello",
        "----",
        truncated,
        &no_end,
        &trailing,
        RFC4716_BEGIN,
        RSA_3072,
        &of_another_type,
        &two,
        "AAAA",
    ] {
        assert_eq!(refused(material.as_bytes()), "InvalidKey.Format", "{material}");
    }
    assert_eq!(refused(b"\xff"), "InvalidKey.Format");
    let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";
    assert_eq!(refused(ecdsa.as_bytes()), "InvalidKey.Format");
}

#[test]
fn the_length_below_at_and_above_its_limit() {
    for (length, is_read) in [(4095, true), (4096, true), (4097, false)] {
        let padded = format!("{ED25519:<length$}");
        assert_eq!(read(padded.as_bytes(), "laptop").is_ok(), is_read, "{length}");
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
    let read = read(made.public.line.as_bytes(), "laptop").unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    assert_eq!(read.fingerprint, colons(&Md5::digest(der.as_ref())), "both halves are of one pair");
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    assert_eq!(made.public.fingerprint, colons(digest(&SHA1_FOR_LEGACY_USE_ONLY, pkcs8.as_ref()).as_ref()));
    assert_eq!(made.public.fingerprint.len(), 59);
}

#[test]
fn der_that_ends_early_is_none() {
    assert_eq!(element(&[0x02, 0x01, 0x07, 9], 0x02), Some((&[7][..], &[9][..])));
    assert_eq!(element(&[0x30, 0x81, 0x01, 0x07], 0x30), Some((&[7][..], &[][..])));
    for der in [&[][..], &[2], &[2, 1], &[2, 0x81], &[2, 0x82, 0], &[2, 0x83, 0, 0, 0], &[2, 0x80], &[4, 1, 7]] {
        assert_eq!(element(der, 0x02), None, "{der:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered(material: Vec<u8>, cut in 0..200usize) {
        let _ = read(&material, "laptop");
        let _ = inside_pkcs8(&material);
        let _ = read(&RSA_1024.as_bytes()[..cut.min(RSA_1024.len())], "laptop");
    }
}
