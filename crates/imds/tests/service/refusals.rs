//! Every way of being refused, and which refusal wins.

use crate::lab::{NOW, lab};

const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds: 60";
const TOKEN: &str = "X-aws-ec2-metadata-token: {token}";
const BAD_TOKEN: &str = "X-aws-ec2-metadata-token: AQAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
const FORWARDED: &str = "X-Forwarded-For: 10.0.0.9";
const FORBIDDEN: &str = "403 text/plain\n\n";
const UNAUTHORIZED: &str = "401 text/html\n\n<401 - Unauthorized>";
const BAD_REQUEST: &str = "400 text/html\n\n<400 - Bad Request>";
const NOT_FOUND: &str = "404 text/html\n\n<404 - Not Found>";
const TREE_ONLY_READ: &str = "405 text/plain\nallow: GET, HEAD\n\n";
const TOKEN_ONLY_PUT: &str = "405 text/plain\nallow: OPTIONS, PUT\n\n";

#[test]
fn a_disabled_endpoint_answers_403_to_everything() {
    for request in [
        "GET /",
        "GET /latest/meta-data/",
        "GET /nothing",
        "HEAD /latest/meta-data/instance-id",
        "OPTIONS /latest/api/token",
        "POST /latest/api/token",
        "DELETE /",
        &format!("PUT /latest/api/token\n{TTL}"),
        &format!("GET /latest/meta-data/instance-id\n{TOKEN}"),
        &format!("GET /latest/meta-data/instance-id\n{BAD_TOKEN}"),
    ] {
        lab().disabled().check(request, FORBIDDEN);
    }
}

#[test]
fn methods() {
    for (request, expected) in [
        ("POST /latest/meta-data/instance-id", TREE_ONLY_READ),
        ("DELETE /", TREE_ONLY_READ),
        ("OPTIONS /latest/meta-data/", TREE_ONLY_READ),
        ("OPTIONS *", TREE_ONLY_READ),
        ("get /latest/meta-data/", TREE_ONLY_READ),
        ("TRACE /latest/meta-data/", TREE_ONLY_READ),
        ("PUT /latest/meta-data/instance-id", FORBIDDEN),
        ("GET /latest/api/token", TOKEN_ONLY_PUT),
        ("HEAD /latest/api/token", TOKEN_ONLY_PUT),
        ("POST /latest/api/token", TOKEN_ONLY_PUT),
        ("GET /latest/api/token?x=1", TOKEN_ONLY_PUT),
        ("OPTIONS /latest/api/token", "200 text/plain\nallow: OPTIONS, PUT\n\n"),
        ("GET /latest/api/token/", NOT_FOUND),
        ("GET /latest/api/", NOT_FOUND),
        ("GET /2021-07-15/api/token", NOT_FOUND),
    ] {
        lab().check(request, expected);
    }
}

#[test]
fn only_the_exact_path_gives_tokens() {
    for path in [
        "/2021-03-23/api/token",
        "/1.0/api/token",
        "/latest/api/token/",
        "/latest//api/token",
        "//latest/api/token",
        "/latest/api/token//",
        "/latest/api/Token",
        "/latest/api/%74oken",
        "/latest/api/./token",
        "/latest/api",
        "/",
        "latest/api/token",
        "http://169.254.169.254/latest/api/token",
    ] {
        lab().check(&format!("PUT {path}\n{TTL}"), FORBIDDEN);
    }
}

#[test]
fn forwarded_requests() {
    let leaf = "/latest/meta-data/ami-launch-index";
    for (request, expected) in [
        (format!("PUT /latest/api/token\n{TTL}\n{FORWARDED}"), 403),
        (format!("PUT /latest/api/token\n{TTL}\nx-forwarded-for: 10.0.0.9"), 403),
        (format!("PUT /latest/api/token\n{TTL}\nX-FORWARDED-FOR: 10.0.0.9"), 403),
        (format!("PUT /latest/api/token\n{TTL}\nX-Forwarded-For: "), 403),
        (format!("PUT /latest/api/token\n{FORWARDED}"), 403),
        (format!("GET {leaf}\n{TOKEN}\n{FORWARDED}"), 403),
        (format!("HEAD {leaf}\n{TOKEN}\n{FORWARDED}"), 403),
        (format!("GET {leaf}\n{BAD_TOKEN}\n{FORWARDED}"), 403),
        (format!("GET /nothing\n{TOKEN}\n{FORWARDED}"), 403),
        (format!("OPTIONS /latest/api/token\n{TOKEN}\n{FORWARDED}"), 403),
        (format!("GET {leaf}\n{FORWARDED}"), 200),
        (format!("HEAD {leaf}\n{FORWARDED}"), 200),
        (format!("GET {leaf}\n{TOKEN}\nX-Forwarded-Host: a"), 200),
        (format!("GET {leaf}\n{TOKEN}\nForwarded: for=10.0.0.9"), 200),
        // The method is told first.
        (format!("GET /latest/api/token\n{FORWARDED}"), 405),
        (format!("POST {leaf}\n{TOKEN}\n{FORWARDED}"), 405),
    ] {
        assert_eq!(lab().status(&request), expected, "{request}");
    }
    lab().check(&format!("PUT /latest/api/token\n{TTL}\n{FORWARDED}"), FORBIDDEN);
    lab().check(&format!("GET {leaf}\n{TOKEN}\n{FORWARDED}"), FORBIDDEN);
    assert_eq!(lab().required().status(&format!("GET {leaf}\n{FORWARDED}")), 401);
}

#[test]
fn bad_ttl() {
    for value in ["", "0", "21601", "-1", "+60", "60s", "1e3", "six", "99999999999999999999"] {
        lab().check(&format!("PUT /latest/api/token\nX-aws-ec2-metadata-token-ttl-seconds: {value}"), BAD_REQUEST);
    }
    lab().check("PUT /latest/api/token", BAD_REQUEST);
}

/// A token that is there is checked whether or not version 1 is allowed, and before the path.
#[test]
fn bad_tokens() {
    let other_instance = lab().token(60);
    for lab in [lab(), lab().required()] {
        for path in ["/", "/latest/meta-data/instance-id", "/nothing", "/latest/meta-data/iam/info"] {
            for token in ["", "x", &"A".repeat(56), &"A".repeat(4096), "%00", "é"] {
                lab.check(&format!("GET {path}\nX-aws-ec2-metadata-token: {token}"), UNAUTHORIZED);
            }
            lab.check(&format!("GET {path}\n{BAD_TOKEN}"), UNAUTHORIZED);
            lab.check(&format!("HEAD {path}\n{BAD_TOKEN}"), "401 text/html\n\n");
        }
    }
    let mut second = lab();
    second.instance = "i-0123456789abcdef1".parse().unwrap();
    let replayed = format!("GET /latest/meta-data/instance-id\nX-aws-ec2-metadata-token: {other_instance}");
    assert_eq!(lab().status(&replayed), 200);
    second.check(&replayed, UNAUTHORIZED);
}

#[test]
fn no_token_where_one_is_required() {
    for path in ["/", "/latest/meta-data/instance-id", "/nothing", "/latest/user-data"] {
        lab().required().check(&format!("GET {path}"), UNAUTHORIZED);
        lab().required().check(&format!("HEAD {path}"), "401 text/html\n\n");
        // Asking for a life is not having one.
        lab().required().check(&format!("GET {path}\n{TTL}"), UNAUTHORIZED);
    }
    // What needs no token still answers.
    lab().required().check("OPTIONS /latest/api/token", "200 text/plain\nallow: OPTIONS, PUT\n\n");
    lab().required().check("GET /latest/api/token", TOKEN_ONLY_PUT);
}

#[test]
fn unknown_paths() {
    let long = format!("/latest/meta-data/{}", "a/".repeat(50_000));
    for path in [
        "/nothing",
        "/latest/nothing",
        "/latest/meta-data/nothing",
        "/latest/meta-data/instance-id/nothing",
        "/latest/meta-data/instance-i",
        "/latest/meta-data/instance",
        "/latest/meta-data/Instance-Id",
        "/latest/meta-data/iam",
        "/latest/meta-data/iam/",
        "/latest/meta-data/iam/info",
        "/latest/meta-data/iam/security-credentials",
        "/latest/meta-data/iam/security-credentials/",
        "/latest/dynamic/instance-identity/dsa2048",
        "/latest/dynamic/instance-identity/signatures",
        "/latest/user-data",
        "/latest/meta-data/public-keys/",
        "/latest/meta-data/public-keys/0/openssh-key",
        "/latest/meta-data/tags/",
        "/latest/meta-data/tags/instance/Name",
        "/latest/meta-data/../meta-data/instance-id",
        "/latest/./meta-data/instance-id",
        "/latest/meta-data/instance-id%00",
        "/latest/meta-data/%00",
        "/latest/meta-data/instance-id\u{0}",
        "/latest/meta-data%2Finstance-id",
        "/latest/meta-data/instance-id;x=1",
        "/latest/meta-data\\instance-id",
        "/2021-07-16/meta-data/instance-id",
        "/LATEST/meta-data/instance-id",
        "/é",
        "meta-data",
        "*",
        "",
        "http://169.254.169.254/latest/meta-data/instance-id",
        &long,
    ] {
        lab().check(&format!("GET {path}"), NOT_FOUND);
        lab().check(&format!("HEAD {path}"), "404 text/html\n\n");
    }
}

#[test]
fn the_404_says_what_the_token_has_left() {
    let expected = "404 text/html\nx-aws-ec2-metadata-token-ttl-seconds: 21599\n\n<404 - Not Found>";
    lab().at(NOW.plus(1)).check(&format!("GET /latest/meta-data/iam/info\n{TOKEN}"), expected);
}

/// The role exists from the first moment; only its credentials may not be there yet.
#[test]
fn credentials_that_are_not_there_yet() {
    let mut lab = lab();
    lab.credentials = None;
    for path in ["", "/ec2", "/ec2/info", "/ec2/security-credentials/", "/ec2/security-credentials/ec2-instance"] {
        lab.check(&format!("GET /latest/meta-data/identity-credentials{path}"), "503 text/plain\n\n");
    }
    lab.check("GET /latest/meta-data/identity-credentials/other", NOT_FOUND);
    assert!(!lab.get("/latest/meta-data/").contains("identity-credentials"));
}

/// What is withheld is not there, whether it was prepared or not: nobody should try again.
#[test]
fn credentials_that_are_withheld() {
    for prepared in [None, lab().credentials] {
        let mut lab = lab();
        (lab.credentials, lab.is_withheld) = (prepared, true);
        for path in ["", "/ec2", "/ec2/info", "/ec2/security-credentials/", "/ec2/security-credentials/ec2-instance"] {
            lab.check(&format!("GET /latest/meta-data/identity-credentials{path}"), NOT_FOUND);
        }
        assert!(!lab.get("/latest/meta-data/").contains("identity-credentials"));
        assert_eq!(lab.get("/latest/meta-data/instance-id"), "i-0123456789abcdef0");
    }
}

/// The document is there from the first moment; its signatures are made beside the requests.
#[test]
fn signatures_that_are_not_there_yet() {
    let mut lab = lab();
    lab.signatures = None;
    for leaf in ["pkcs7", "rsa2048", "signature"] {
        lab.check(&format!("GET /latest/dynamic/instance-identity/{leaf}"), "503 text/plain\n\n");
    }
    assert_eq!(lab.get("/latest/dynamic/instance-identity/"), "document");
}
