//! Where telemetry rests. What is acknowledged is on disk: batches are appended to a log and synced in groups. From time
//! to time the log becomes OCSF 1.3 Parquet in the layout that Amazon Security Lake asks of custom sources.
#![forbid(unsafe_code)]
