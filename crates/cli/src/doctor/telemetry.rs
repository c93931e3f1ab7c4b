//! The bucket of telemetry: can it be written, read and deleted in.

use super::Finding;
use crate::telemetry_store::TelemetryStore;

const STORE: &str = "telemetry store";

/// Nothing where there is none.
pub(super) async fn look(store: Option<TelemetryStore>) -> Option<Finding> {
    let store = store?;
    let name = format!("inborn-doctor-{}", std::process::id());
    let asked = store.clone();
    let probed = tokio::task::spawn_blocking(move || asked.probe(&name)).await;
    Some(match probed {
        Ok(probed) => verdict(&store, probed),
        Err(error) => Finding::problem(STORE, error.to_string(), "try again"),
    })
}

fn verdict(store: &TelemetryStore, probed: anyhow::Result<()>) -> Finding {
    match probed {
        Ok(()) if store.is_open_to_listeners() => Finding::hint(
            STORE,
            format!("{store:?} can be used, and everybody on the way can read along"),
            "give it an https:// endpoint",
        ),
        Ok(()) => Finding::fine(STORE, format!("{store:?}: objects can be written, read and removed")),
        Err(error) => Finding::problem(
            STORE,
            format!("{store:?}: {error:#}"),
            "mend it: meanwhile telemetry waits on the disk; docs/operations.md, *Telemetry's bucket*, says for how long",
        ),
    }
}
