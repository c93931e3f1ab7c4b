//! `ResumeSession`: a client that was cut off asks to be let in again.

use super::{refusal, session};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let session = session::open_session(&call)?;
        if session.has_ended() {
            return Err(refusal::no_session(&session.record.id));
        }
        session::let_in(&call, &session)
    })
}
