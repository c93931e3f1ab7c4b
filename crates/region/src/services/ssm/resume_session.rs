//! `ResumeSession`: a client that was cut off asks to be let in again.

use super::session;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move { session::let_in(&call, &*session::open_session(&call)?) })
}
