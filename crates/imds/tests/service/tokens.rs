//! Session tokens on the wire.

use inborn_identity::UnixTime;
use inborn_imds::{Class, Response};

use crate::lab::{Lab, NOW, lab};

fn put(lab: &Lab, ttl: &str) -> Response {
    let request = format!("PUT /latest/api/token\nX-Aws-Ec2-Metadata-Token-TTL-Seconds: {ttl}");
    lab.ask(&request, |response| response)
}

#[test]
fn a_token_is_56_characters_with_its_life_echoed() {
    let mut lab = lab();
    for hop_limit in [1, 2, 64] {
        lab.options.hop_limit = hop_limit;
        let response = put(&lab, "60");
        assert_eq!((response.status, response.content_type), (200, "text/plain"));
        assert_eq!((response.body.len(), response.content_length), (56, 56));
        assert_eq!((response.token_ttl, response.hop_limit, response.close), (Some(60), Some(hop_limit), true));
        assert_eq!((response.class, response.delivery), (Class::Token, None));
        assert!(response.body.iter().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(b)));
        let mut headers = Vec::new();
        response.for_each_header(|name, value| headers.push(format!("{name}: {value}")));
        assert_eq!(
            headers,
            [
                "server: EC2ws",
                "content-type: text/plain",
                "x-aws-ec2-metadata-token-ttl-seconds: 60",
                "connection: close"
            ]
        );
    }
}

#[test]
fn life_below_at_and_above() {
    for (ttl, expected) in [("0", None), ("1", Some(1)), ("2", Some(2)), ("21599", Some(21_599))]
        .into_iter()
        .chain([("21600", Some(21_600)), ("21601", None)])
    {
        let response = put(&lab(), ttl);
        assert_eq!((response.status == 200, response.token_ttl), (expected.is_some(), expected), "{ttl}");
    }
}

#[test]
fn a_token_works_until_its_last_second() {
    let ask = |token: &[u8], now: UnixTime| {
        let request =
            format!("GET /latest/meta-data/instance-id\nX-aws-ec2-metadata-token: {}", String::from_utf8_lossy(token));
        lab().required().at(now).ask(&request, |response| (response.status, response.token_ttl))
    };
    let token = put(&lab(), "5").body;
    for (later, expected) in [(0, (200, Some(5))), (1, (200, Some(4))), (4, (200, Some(1))), (5, (401, None))] {
        assert_eq!(ask(&token, NOW.plus(later)), expected, "{later}");
    }
    let longest = put(&lab(), "21600").body;
    assert_eq!(ask(&longest, NOW.plus(1)), (200, Some(21_599)));
    assert_eq!(ask(&longest, NOW.plus(21_599)), (200, Some(1)));
    assert_eq!(ask(&longest, NOW.plus(21_600)), (401, None));
    assert_eq!(ask(&longest, NOW.minus(1)), (401, None));
}

#[test]
fn any_number_of_tokens_live_at_once() {
    let tokens: Vec<_> = (0..100).map(|_| put(&lab(), "60").body).collect();
    for token in &tokens {
        let request = format!("GET /\nX-aws-ec2-metadata-token: {}", String::from_utf8_lossy(token));
        assert_eq!(lab().status(&request), 200);
        assert_eq!(tokens.iter().filter(|other| *other == token).count(), 1);
    }
}

#[test]
fn a_query_does_not_change_the_path() {
    assert_eq!(lab().status("PUT /latest/api/token?a=b\nx-aws-ec2-metadata-token-ttl-seconds: 1"), 200);
    assert_eq!(lab().get("/latest/meta-data/instance-id?a=b"), "i-0123456789abcdef0");
}
