//! Host keys as rows.

use inborn_identity::InstanceId;
use rusqlite::{Connection, OptionalExtension, Row};

use super::fault::{self, Outcome};
use super::records::{column, moment, parsed, time};
use crate::{Conflict, HostKeySet, HostKeys, HostKeysChange, StoreError};

/// See [`crate::Store::host_keys`].
pub(super) fn one(connection: &Connection, instance: InstanceId) -> Outcome<(u64, HostKeys)> {
    let id = instance.to_string();
    let Some((revision, proofs_until)) = head(connection, &id)? else { return Ok((0, HostKeys::default())) };
    let mut keys = HostKeys { proofs_until, ..HostKeys::default() };
    let mut statement = connection
        .prepare_cached("SELECT * FROM host_key_sets WHERE instance_id = ?1 ORDER BY place")
        .map_err(fault::from_sqlite)?;
    let mut rows = statement.query((id,)).map_err(fault::from_sqlite)?;
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        let set = set(row)?;
        match column::<u8>(row, "place")? {
            0 => keys.current = Some(set),
            1 => keys.pending = Some(set),
            _ => keys.past.push(set),
        }
    }
    Ok((revision, keys))
}

fn head(connection: &Connection, id: &str) -> Outcome<Option<(u64, inborn_identity::UnixTime)>> {
    let sql = "SELECT revision, proofs_until FROM host_key_records WHERE instance_id = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query((id,)).map_err(fault::from_sqlite)?;
    let Some(row) = rows.next().map_err(fault::from_sqlite)? else { return Ok(None) };
    let revision = u64::try_from(column::<i64>(row, "revision")?).map_err(fault::corrupt)?;
    Ok(Some((revision, moment(row, "proofs_until")?)))
}

fn set(row: &Row<'_>) -> Outcome<HostKeySet> {
    let lines: String = column(row, "key_lines")?;
    Ok(HostKeySet {
        lines: lines.split('\n').map(str::to_owned).collect(),
        basis: parsed(row, "basis")?,
        proven: column(row, "proven")?,
        first_seen: moment(row, "first_seen")?,
        last_seen: moment(row, "last_seen")?,
        boot_generation: column(row, "boot_generation")?,
        access_key_id: column(row, "access_key_id")?,
        source_address: column(row, "source_address")?,
    })
}

/// See [`crate::Store::put_host_keys`].
pub(super) fn put(connection: &Connection, change: &HostKeysChange) -> Outcome<()> {
    let id = change.instance.to_string();
    let found = head(connection, &id)?.map_or(0, |(revision, _)| revision);
    if found != change.revision {
        return Err(Conflict::HostKeysChanged(change.instance).into());
    }
    let exists = connection
        .prepare_cached("SELECT 1 FROM instances WHERE id = ?1")
        .and_then(|mut sql| sql.query_row((&id,), |_| Ok(())).optional())
        .map_err(fault::from_sqlite)?;
    if exists.is_none() {
        return Err(StoreError::NotFound(vec![change.instance]));
    }
    let sql = "INSERT INTO host_key_records (instance_id, revision, proofs_until) VALUES (?1, ?2, ?3) \
        ON CONFLICT (instance_id) DO UPDATE SET revision = excluded.revision, proofs_until = excluded.proofs_until";
    let revision = i64::try_from(found + 1).map_err(fault::corrupt)?;
    let row = (&id, revision, time(change.keys.proofs_until));
    connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    let sql = "DELETE FROM host_key_sets WHERE instance_id = ?1";
    connection.prepare_cached(sql).and_then(|mut sql| sql.execute((&id,))).map_err(fault::from_sqlite)?;
    for (place, set) in change.keys.places() {
        insert(connection, &id, place, set)?;
    }
    Ok(())
}

fn insert(connection: &Connection, id: &str, place: u8, set: &HostKeySet) -> Outcome<()> {
    let sql = "INSERT INTO host_key_sets (instance_id, place, key_lines, basis, proven, first_seen, last_seen, \
        boot_generation, access_key_id, source_address) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let row = (
        id,
        place,
        set.lines.join("\n"),
        set.basis.as_str(),
        set.proven,
        time(set.first_seen),
        time(set.last_seen),
        set.boot_generation,
        &set.access_key_id,
        &set.source_address,
    );
    connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map(drop).map_err(fault::from_sqlite)
}
