//! Host keys as rows.

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{Conflict, HostKeySet, HostKeys, HostKeysChange, StoreError};

use crate::fault::{self, Outcome};
use crate::instances;
use crate::transaction::Session;
use crate::value::{Row, Value, values};

/// See [`inborn_store::Store::host_keys`].
pub(crate) async fn one(session: &Session<'_>, instance: &InstanceId) -> Outcome<(u64, HostKeys)> {
    let Some((revision, proofs_until)) = head(session, *instance).await? else { return Ok((0, HostKeys::default())) };
    let mut keys = HostKeys { proofs_until, ..HostKeys::default() };
    let sql = "SELECT place, key_lines, basis, proven, first_seen, last_seen, boot_generation, access_key_id, \
        source_address FROM host_key_sets WHERE instance_id = $1 ORDER BY place";
    for row in session.rows(sql, &[Value::shown(instance)]).await? {
        let set = set(&row)?;
        match row.number::<u8>("place")? {
            0 => keys.current = Some(set),
            1 => keys.pending = Some(set),
            _ => keys.past.push(set),
        }
    }
    Ok((revision, keys))
}

async fn head(session: &Session<'_>, instance: InstanceId) -> Outcome<Option<(u64, UnixTime)>> {
    let sql = "SELECT revision, proofs_until FROM host_key_records WHERE instance_id = $1";
    let row = session.row(sql, &[Value::shown(instance)]).await?;
    row.map(|row| Ok((row.number("revision")?, row.moment("proofs_until")?))).transpose()
}

fn set(row: &Row) -> Outcome<HostKeySet> {
    Ok(HostKeySet {
        lines: row.text("key_lines")?.split('\n').map(str::to_owned).collect(),
        basis: row.parsed("basis")?,
        proven: row.flag("proven")?,
        first_seen: row.moment("first_seen")?,
        last_seen: row.moment("last_seen")?,
        boot_generation: row.number("boot_generation")?,
        access_key_id: row.text("access_key_id")?,
        source_address: row.text("source_address")?,
    })
}

/// See [`inborn_store::Store::put_host_keys`].
pub(crate) async fn put(session: &Session<'_>, change: &HostKeysChange) -> Outcome<()> {
    let id = change.instance.to_string();
    let found = head(session, change.instance).await?.map_or(0, |(revision, _)| revision);
    if found != change.revision {
        return Err(Conflict::HostKeysChanged(change.instance).into());
    }
    if instances::is_alive(session, change.instance).await?.is_none() {
        return Err(StoreError::NotFound(vec![change.instance]).into());
    }
    let sql = "INSERT INTO host_key_records (instance_id, revision, proofs_until) VALUES ($1, $2, $3) \
        ON CONFLICT (instance_id) DO UPDATE SET revision = excluded.revision, proofs_until = excluded.proofs_until";
    let revision = i64::try_from(found.saturating_add(1)).map_err(fault::corrupt)?;
    session.run(sql, values![&id, revision, change.keys.proofs_until]).await?;
    session.run("DELETE FROM host_key_sets WHERE instance_id = $1", values![&id]).await?;
    for (place, set) in change.keys.places() {
        insert(session, &id, place, set).await?;
    }
    Ok(())
}

async fn insert(session: &Session<'_>, id: &str, place: u8, set: &HostKeySet) -> Outcome<()> {
    let sql = "INSERT INTO host_key_sets (instance_id, place, key_lines, basis, proven, first_seen, last_seen, \
        boot_generation, access_key_id, source_address) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let row = values![
        id,
        place,
        set.lines.join("\n"),
        set.basis.as_str(),
        set.proven,
        set.first_seen,
        set.last_seen,
        set.boot_generation,
        &set.access_key_id,
        &set.source_address,
    ];
    session.run(sql, row).await.map(drop)
}
