//! Operators, epochs, cut-offs and settings as rows, and how columns are read.

use core::fmt::Display;
use core::str::FromStr;

use inborn_identity::{AccessKeyId, UnixTime};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::fault::{self, Outcome};
use crate::{
    Conflict, CutOff, CutOffScope, EpochChange, Operator, OperatorChange, RecordedCutOff, Resealing, Sealed,
    SealedEpoch, SealedPlace, SettingChange,
};

/// A point in time as it is stored. The last one there is has 38 bits.
pub(super) fn time(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// A column as SQLite has it.
pub(super) fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Outcome<T> {
    row.get(name).map_err(fault::from_sqlite)
}

/// A column that is one of our texts.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, name: &str) -> Outcome<T> {
    let text: String = column(row, name)?;
    text.parse().map_err(|_| fault::corrupt(format_args!("column {name} holds what was never written there")))
}

/// A column that is a point in time.
pub(super) fn moment(row: &Row<'_>, name: &str) -> Outcome<UnixTime> {
    let seconds: i64 = column(row, name)?;
    instant(seconds)
}

fn instant(seconds: i64) -> Outcome<UnixTime> {
    u64::try_from(seconds).map(UnixTime::from_secs).map_err(|_| fault::corrupt("a time is before 1970"))
}

/// All rows of a query without parameters.
pub(super) fn all<T>(connection: &Connection, sql: &str, read: impl Fn(&Row<'_>) -> Outcome<T>) -> Outcome<Vec<T>> {
    all_with(connection, sql, (), read)
}

/// All rows of a query.
fn all_with<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl Fn(&Row<'_>) -> Outcome<T>,
) -> Outcome<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query(values).map_err(fault::from_sqlite)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        records.push(read(row)?);
    }
    Ok(records)
}

/// See [`crate::Store::operators`].
pub(super) fn operators(connection: &Connection) -> Outcome<Vec<Operator>> {
    all(connection, "SELECT * FROM operators ORDER BY access_key_id", |row| {
        Ok(Operator {
            access_key_id: parsed(row, "access_key_id")?,
            secret: Sealed::new(column(row, "sealed_secret")?),
            name: column(row, "name")?,
            user_id: column(row, "user_id")?,
            account: parsed(row, "account")?,
            created_at: moment(row, "created_at")?,
            disabled: column(row, "disabled")?,
        })
    })
}

/// See [`crate::Store::put_operator`].
pub(super) fn put_operator(connection: &Connection, operator: &Operator) -> Outcome<()> {
    // No index does that: stores of before have operators of one name, and what is restored is not to be refused for it.
    let sql = "SELECT 1 FROM operators WHERE account = ?1 AND LOWER(name) = LOWER(?2) AND access_key_id <> ?3";
    let row = (operator.account.to_string(), &operator.name, operator.access_key_id.as_str());
    let taken = connection.prepare_cached(sql).and_then(|mut sql| sql.exists(row)).map_err(fault::from_sqlite)?;
    if taken {
        return Err(Conflict::OperatorName(operator.name.clone()).into());
    }
    let sql = "INSERT INTO operators (access_key_id, sealed_secret, name, user_id, account, created_at, disabled) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row = (
        operator.access_key_id.as_str(),
        operator.secret.as_bytes(),
        &operator.name,
        &operator.user_id,
        operator.account.to_string(),
        time(operator.created_at),
        operator.disabled,
    );
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map(drop).map_err(|error| fault::from_insertion(error, "an operator"))
}

/// See [`crate::Store::change_operator`].
pub(super) fn change_operator(connection: &Connection, id: AccessKeyId, change: OperatorChange) -> Outcome<bool> {
    let sql = match change {
        OperatorChange::Enable => "UPDATE operators SET disabled = 0 WHERE access_key_id = ?1",
        OperatorChange::Disable => "UPDATE operators SET disabled = 1 WHERE access_key_id = ?1",
        OperatorChange::Delete => "DELETE FROM operators WHERE access_key_id = ?1",
    };
    let changed = connection.prepare_cached(sql).and_then(|mut sql| sql.execute((id.as_str(),)));
    changed.map(|rows| rows > 0).map_err(fault::from_sqlite)
}

/// See [`crate::Store::epochs`].
pub(super) fn epochs(connection: &Connection) -> Outcome<Vec<SealedEpoch>> {
    all(connection, "SELECT * FROM epochs ORDER BY id", |row| {
        Ok(SealedEpoch {
            id: column(row, "id")?,
            blob: Sealed::new(column(row, "sealed_root")?),
            created_at: moment(row, "created_at")?,
            state: parsed(row, "state")?,
            seals_from: optional_moment(row, "seals_from")?,
            ended_at: optional_moment(row, "ended_at")?,
            revoked: column(row, "revoked")?,
        })
    })
}

pub(super) fn optional_moment(row: &Row<'_>, name: &str) -> Outcome<Option<UnixTime>> {
    column::<Option<i64>>(row, name)?.map(instant).transpose()
}

/// See [`crate::Store::put_epoch`].
pub(super) fn put_epoch(connection: &Connection, epoch: &SealedEpoch) -> Outcome<()> {
    let sql = "INSERT INTO epochs (id, sealed_root, created_at, state, seals_from, ended_at, revoked) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (seals_from, ended_at) = (epoch.seals_from.map(time), epoch.ended_at.map(time));
    let row = (
        epoch.id,
        epoch.blob.as_bytes(),
        time(epoch.created_at),
        epoch.state.as_str(),
        seals_from,
        ended_at,
        epoch.revoked,
    );
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map(drop).map_err(|error| fault::from_insertion(error, "an epoch"))
}

/// See [`crate::Store::change_epochs`].
pub(super) fn change_epochs(
    connection: &Connection,
    changes: &[EpochChange],
    cut_offs: &[RecordedCutOff],
) -> Outcome<()> {
    let found = epochs(connection)?;
    for EpochChange { expected, after } in changes {
        if !found.contains(expected) {
            return Err(Conflict::EpochChanged(expected.id).into());
        }
        let sql = "UPDATE epochs SET sealed_root = ?2, state = ?3, seals_from = ?4, ended_at = ?5, revoked = ?6 WHERE id = ?1";
        let (seals_from, ended_at) = (after.seals_from.map(time), after.ended_at.map(time));
        let row = (after.id, after.blob.as_bytes(), after.state.as_str(), seals_from, ended_at, after.revoked);
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    }
    cut_offs.iter().try_for_each(|cut_off| put_cut_off(connection, *cut_off))
}

/// See [`crate::Store::cut_offs_since`].
pub(super) fn cut_offs_since(connection: &Connection, since: UnixTime) -> Outcome<Vec<RecordedCutOff>> {
    let sql = "SELECT * FROM cut_offs WHERE made_at >= ?1 ORDER BY kind, subject";
    all_with(connection, sql, (time(since),), |row| {
        let kind: String = column(row, "kind")?;
        let threshold: i64 = column(row, "threshold")?;
        let cut_off = match kind.as_str() {
            "dead" => CutOff::Dead { instance: parsed(row, "subject")? },
            "older-boot" => CutOff::OlderBoot {
                instance: parsed(row, "subject")?,
                below: u32::try_from(threshold).map_err(fault::corrupt)?,
            },
            "issued-before" => CutOff::IssuedBefore { scope: scope(row)?, before: instant(threshold)? },
            _ => return Err(fault::corrupt("cut_offs.kind is of no known kind")),
        };
        Ok(RecordedCutOff { cut_off, at: moment(row, "made_at")? })
    })
}

/// An id of an instance begins with a letter, one of an account with a digit.
fn scope(row: &Row<'_>) -> Outcome<CutOffScope> {
    let subject: String = column(row, "subject")?;
    Ok(match subject.as_str() {
        ALL => CutOffScope::All,
        subject if subject.starts_with('i') => CutOffScope::Instance(parsed(row, "subject")?),
        _ => CutOffScope::Account(parsed(row, "subject")?),
    })
}

const ALL: &str = "*";

/// See [`crate::Store::put_cut_off`].
pub(super) fn put_cut_off(connection: &Connection, cut_off: RecordedCutOff) -> Outcome<()> {
    write_cut_off(connection, cut_off, "").map(drop)
}

/// As [`put_cut_off`], unless there is one that is as strong already; gives whether it was written.
pub(super) fn put_stronger_cut_off(connection: &Connection, cut_off: RecordedCutOff) -> Outcome<bool> {
    write_cut_off(connection, cut_off, " WHERE excluded.threshold > cut_offs.threshold").map(|written| written > 0)
}

fn write_cut_off(
    connection: &Connection,
    RecordedCutOff { cut_off, at }: RecordedCutOff,
    condition: &str,
) -> Outcome<usize> {
    let (kind, subject, threshold) = match cut_off {
        CutOff::Dead { instance } => ("dead", instance.to_string(), 0),
        CutOff::OlderBoot { instance, below } => ("older-boot", instance.to_string(), i64::from(below)),
        CutOff::IssuedBefore { scope, before } => ("issued-before", subject(scope), time(before)),
    };
    let sql = "INSERT INTO cut_offs (kind, subject, threshold, made_at) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (kind, subject) DO UPDATE SET \
        threshold = CASE WHEN excluded.threshold > cut_offs.threshold THEN excluded.threshold ELSE cut_offs.threshold END, \
        made_at = CASE WHEN excluded.made_at > cut_offs.made_at THEN excluded.made_at ELSE cut_offs.made_at END";
    let row = (kind, subject, threshold, time(at));
    let sql = format!("{sql}{condition}");
    connection.prepare_cached(&sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)
}

fn subject(scope: CutOffScope) -> String {
    let text: &dyn Display = match &scope {
        CutOffScope::Instance(instance) => instance,
        CutOffScope::Account(account) => account,
        CutOffScope::All => &ALL,
    };
    text.to_string()
}

/// See [`crate::Store::forget_cut_offs`].
pub(super) fn forget_cut_offs(connection: &Connection, before: UnixTime) -> Outcome<u64> {
    let deleted = connection
        .prepare_cached("DELETE FROM cut_offs WHERE made_at < ?1")
        .and_then(|mut sql| sql.execute((time(before),)));
    deleted.map(|rows| rows as u64).map_err(fault::from_sqlite)
}

/// See [`crate::Store::setting`].
pub(super) fn setting(connection: &Connection, name: &str) -> Outcome<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .and_then(|mut sql| sql.query_row((name,), |row| row.get(0)).optional())
        .map_err(fault::from_sqlite)
}

/// See [`crate::Store::put_setting`].
pub(super) fn put_setting(connection: &Connection, change: &SettingChange) -> Outcome<()> {
    if setting(connection, &change.name)? != change.expected {
        return Err(Conflict::SettingChanged(change.name.clone()).into());
    }
    let sql = "INSERT INTO settings (name, value) VALUES (?1, ?2) \
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    let row = (&change.name, &change.value);
    connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map(drop).map_err(fault::from_sqlite)
}

/// See [`crate::Store::setting_names`].
pub(super) fn setting_names(connection: &Connection) -> Outcome<Vec<String>> {
    all(connection, "SELECT name FROM settings ORDER BY name", |row| column(row, "name"))
}

/// See [`crate::Store::reseal`].
pub(super) fn reseal(connection: &Connection, all: &[Resealing]) -> Outcome<()> {
    for Resealing { place, expected, after } in all {
        let (sql, key) = match place {
            SealedPlace::Epoch(id) => (
                "UPDATE epochs SET sealed_root = ?2 WHERE id = CAST(?1 AS INTEGER) AND sealed_root = ?3",
                id.to_string(),
            ),
            SealedPlace::Operator(id) => (
                "UPDATE operators SET sealed_secret = ?2 WHERE access_key_id = ?1 AND sealed_secret = ?3",
                id.to_string(),
            ),
            SealedPlace::Setting(name) => {
                ("UPDATE settings SET value = ?2 WHERE name = ?1 AND value = ?3", name.clone())
            }
        };
        let row = (key, after.as_bytes(), expected.as_bytes());
        let changed =
            connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
        if changed != 1 {
            return Err(Conflict::SecretChanged.into());
        }
    }
    Ok(())
}
