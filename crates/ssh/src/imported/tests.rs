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

#[test]
fn keys_are_imported_with_the_fingerprints_of_ec2() {
    let ed25519 = ImportedKey::read(ED25519.as_bytes(), "laptop").unwrap();
    assert_eq!(ed25519.kind, KeyKind::Ed25519);
    assert_eq!(ed25519.fingerprint, "HgGVOaYhaLeH4IccPXp2maF1egAfDVaFC3ASYZUgmao=");
    assert_eq!(ed25519.line, ED25519.replace("me@host", "laptop"));

    let rfc4716 = format!(
        "{RFC4716_BEGIN}\r\nComment: \"1024-bit \\\r\nRSA\"\r\n{}\r\n{}\r\n{RFC4716_END}\r\n",
        &RSA_1024_BODY[..70],
        &RSA_1024_BODY[70..]
    );
    for material in [RSA_1024, &format!("{RSA_1024} a comment with blanks\n"), &rfc4716, RSA_1024_DER] {
        let rsa = ImportedKey::read(material.as_bytes(), "laptop").unwrap();
        assert_eq!((rsa.kind, rsa.fingerprint.as_str()), (KeyKind::Rsa, RSA_1024_MD5), "{material}");
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
        assert!(ImportedKey::read(material.as_bytes(), "laptop").is_err(), "{material}");
    }
    assert_eq!(ImportedKey::read(b"\xff", "laptop"), Err(ImportError::Malformed));
    assert_eq!(ImportedKey::read(RSA_3072.as_bytes(), "laptop"), Err(ImportError::RsaBits));
    let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";
    assert_eq!(ImportedKey::read(ecdsa.as_bytes(), "laptop"), Err(ImportError::Kind));
}

#[test]
fn the_length_below_at_and_above_its_limit() {
    for (length, is_read) in [(4095, true), (4096, true), (4097, false)] {
        let padded = format!("{ED25519:<length$}");
        assert_eq!(ImportedKey::read(padded.as_bytes(), "laptop").is_ok(), is_read, "{length}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered(material: Vec<u8>, cut in 0..200usize) {
        let _ = ImportedKey::read(&material, "laptop");
        let _ = ImportedKey::read(&RSA_1024.as_bytes()[..cut.min(RSA_1024.len())], "laptop");
    }
}
