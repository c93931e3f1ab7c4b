//! Any text as an ARN, of any kind: read or refused, never a panic, and what is read prints as it was.
#![no_main]

use inborn_identity::{Arn, AssumedRoleArn, RoleName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(arn) = text.parse::<Arn>() {
        assert_eq!(arn.to_string(), text);
    }
    if let Ok(role) = text.parse::<RoleName>() {
        assert_eq!(role.as_str(), text);
    }
    if let Ok(session) = text.parse::<AssumedRoleArn>() {
        // The documentation's `iam` form prints as the wire's `sts` form, and that is the end of it.
        let printed = session.to_string();
        assert_eq!(printed.parse::<AssumedRoleArn>().as_ref(), Ok(&session));
        assert_eq!(printed.parse::<Arn>().map(|arn| arn.to_string()).as_ref(), Ok(&printed));
    }
});
