//! Instances as rows: launch, list, change, purge.

use std::collections::{BTreeMap, BTreeSet};

use inborn_identity::{AccountId, HostId, InstanceId, MetadataOptions, UnixTime};
use rusqlite::{Connection, OptionalExtension, Params, Row, ffi, named_params};

use super::fault::{self, Outcome};
use super::{hosts, records};
use crate::{
    Attachment, ChangeRequest, Changed, Conflict, Instance, InstancePage, InstanceQuery, LaunchOutcome, LaunchRequest,
    OwnMac, PURGE_MAX, RecordedCutOff, StateReason, StoreError, UserData,
};

const INSERT: &str = "INSERT INTO instances (id, account, zone, image_id, instance_type, private_address, state, \
    launch_time, boot_time, boot_generation, terminated_at, reason_code, reason_message, http_tokens, http_endpoint, \
    hop_limit, metadata_ipv6, metadata_tags, key_name, ami_launch_index, reservation_id, client_token, \
    lease, host_id, attachment_kind, attachment_value, attachment_mac, public_key, ipv6_address, placement_group, \
    placement_partition) VALUES (:id, :account, :zone, :image_id, :instance_type, :private_address, :state, \
    :launch_time, :boot_time, :boot_generation, :terminated_at, :reason_code, :reason_message, :http_tokens, \
    :http_endpoint, :hop_limit, :metadata_ipv6, :metadata_tags, :key_name, :ami_launch_index, \
    :reservation_id, :client_token, :lease, :host_id, :attachment_kind, :attachment_value, :attachment_mac, :public_key, \
    :ipv6_address, :placement_group, :placement_partition)";

/// Everything that a change can change.
const UPDATE: &str = "UPDATE instances SET state = :state, launch_time = :launch_time, boot_time = :boot_time, \
    boot_generation = :boot_generation, terminated_at = :terminated_at, reason_code = :reason_code, \
    reason_message = :reason_message, http_tokens = :http_tokens, http_endpoint = :http_endpoint, \
    hop_limit = :hop_limit, metadata_ipv6 = :metadata_ipv6, metadata_tags = :metadata_tags, \
    attachment_kind = :attachment_kind, attachment_value = :attachment_value, \
    attachment_mac = :attachment_mac WHERE id = :id";

const INSTANCE: &str = "an instance";

/// See [`crate::Store::launch`].
pub(super) fn launch(connection: &Connection, request: &LaunchRequest) -> Outcome<LaunchOutcome> {
    if let Some(token) = &request.client_token {
        let earlier = earlier_launch(connection, request.account, token)?;
        if let Some((fingerprint, reservation)) = earlier {
            if fingerprint != request.fingerprint {
                return Ok(LaunchOutcome::Mismatch);
            }
            let sql = "SELECT * FROM instances WHERE reservation_id = ?1 AND account = ?2 ORDER BY ami_launch_index";
            return Ok(LaunchOutcome::Replayed(select(connection, sql, (reservation, request.account.to_string()))?));
        }
        let sql = "INSERT INTO launches (account, client_token, fingerprint, reservation_id) VALUES (?1, ?2, ?3, ?4)";
        let row = (request.account.to_string(), token, request.fingerprint.as_slice(), &request.reservation_id);
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    }
    let named: BTreeSet<HostId> = request.instances.iter().filter_map(|instance| instance.host).collect();
    for id in named {
        if !hosts::one(connection, id)?.is_some_and(|host| host.takes(request.account)) {
            return Err(Conflict::HostRefused(id).into());
        }
    }
    for instance in &request.instances {
        insert(connection, instance)?;
    }
    Ok(LaunchOutcome::New(request.launched()))
}

fn earlier_launch(connection: &Connection, account: AccountId, token: &str) -> Outcome<Option<([u8; 32], String)>> {
    connection
        .prepare_cached("SELECT fingerprint, reservation_id FROM launches WHERE account = ?1 AND client_token = ?2")
        .and_then(|mut sql| {
            sql.query_row((account.to_string(), token), |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(fault::from_sqlite)
}

fn insert(connection: &Connection, instance: &Instance) -> Outcome<()> {
    let (attachment_kind, attachment_value) = instance.attachment.as_ref().map(Attachment::to_columns).unzip();
    let options = &instance.metadata_options;
    let row = named_params! {
        ":id": instance.id.to_string(),
        ":account": instance.account.to_string(),
        ":zone": instance.zone.as_str(),
        ":image_id": instance.image_id,
        ":instance_type": instance.instance_type,
        ":private_address": instance.private_address.to_string(),
        ":state": instance.state.as_str(),
        ":launch_time": records::time(instance.launch_time),
        ":boot_time": records::time(instance.boot_time),
        ":boot_generation": instance.boot_generation,
        ":terminated_at": instance.terminated_at.map(records::time),
        ":reason_code": instance.state_reason.as_ref().map(|reason| &reason.code),
        ":reason_message": instance.state_reason.as_ref().map(|reason| &reason.message),
        ":http_tokens": options.http_tokens.to_string(),
        ":http_endpoint": options.http_endpoint.to_string(),
        ":hop_limit": options.hop_limit,
        ":metadata_ipv6": options.ipv6,
        ":metadata_tags": options.tags,
        ":key_name": instance.key_name,
        ":ami_launch_index": instance.ami_launch_index,
        ":reservation_id": instance.reservation_id,
        ":client_token": instance.client_token,
        ":lease": instance.lease,
        ":host_id": instance.host.map(|host| host.to_string()).unwrap_or_default(),
        ":attachment_kind": attachment_kind,
        ":attachment_value": attachment_value,
        ":attachment_mac": instance.mac.map(OwnMac::to_column),
        ":public_key": instance.public_key,
        ":ipv6_address": instance.ipv6_address.map(|address| address.to_string()),
        ":placement_group": instance.placement_group,
        ":placement_partition": instance.placement_partition,
    };
    let inserted = connection.prepare_cached(INSERT).and_then(|mut sql| sql.execute(row));
    if let Err(error) = inserted {
        return Err(match refused(error) {
            // Both the id and the attachment may be taken. SQLite names whichever it saw first; we name the id.
            StoreError::Conflict(_) if one(connection, instance.id)?.is_some() => Conflict::Exists(INSTANCE).into(),
            error => error,
        });
    }
    insert_user_data(connection, instance)?;
    insert_tags(connection, instance)
}

/// The one unique index of instances beside that of their ids is that of their attachments.
fn refused(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(ffi::SQLITE_CONSTRAINT_UNIQUE) => Conflict::AttachmentTaken.into(),
        _ => fault::from_insertion(error, INSTANCE),
    }
}

fn insert_user_data(connection: &Connection, instance: &Instance) -> Outcome<()> {
    let Some(data) = &instance.user_data else { return Ok(()) };
    let sql = "INSERT INTO instance_user_data (instance_id, user_data) VALUES (?1, ?2)";
    let row = (instance.id.to_string(), data.as_bytes());
    connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map(drop).map_err(fault::from_sqlite)
}

fn insert_tags(connection: &Connection, instance: &Instance) -> Outcome<()> {
    let sql = "INSERT INTO instance_tags (instance_id, tag_key, tag_value) VALUES (?1, ?2, ?3)";
    for (key, value) in &instance.tags {
        let row = (instance.id.to_string(), key, value);
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    }
    Ok(())
}

fn update(connection: &Connection, Changed { before, after }: &Changed) -> Outcome<()> {
    let (attachment_kind, attachment_value) = after.attachment.as_ref().map(Attachment::to_columns).unzip();
    let options = &after.metadata_options;
    let row = named_params! {
        ":id": after.id.to_string(),
        ":state": after.state.as_str(),
        ":launch_time": records::time(after.launch_time),
        ":boot_time": records::time(after.boot_time),
        ":boot_generation": after.boot_generation,
        ":terminated_at": after.terminated_at.map(records::time),
        ":reason_code": after.state_reason.as_ref().map(|reason| &reason.code),
        ":reason_message": after.state_reason.as_ref().map(|reason| &reason.message),
        ":http_tokens": options.http_tokens.to_string(),
        ":http_endpoint": options.http_endpoint.to_string(),
        ":hop_limit": options.hop_limit,
        ":metadata_ipv6": options.ipv6,
        ":metadata_tags": options.tags,
        ":attachment_kind": attachment_kind,
        ":attachment_value": attachment_value,
        ":attachment_mac": after.mac.map(OwnMac::to_column),
    };
    let updated = connection.prepare_cached(UPDATE).and_then(|mut sql| sql.execute(row));
    updated.map_err(refused)?;
    let id = (after.id.to_string(),);
    if before.user_data != after.user_data {
        let sql = "DELETE FROM instance_user_data WHERE instance_id = ?1";
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute((&id.0,))).map_err(fault::from_sqlite)?;
        insert_user_data(connection, after)?;
    }
    if before.tags != after.tags {
        let sql = "DELETE FROM instance_tags WHERE instance_id = ?1";
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(id)).map_err(fault::from_sqlite)?;
        insert_tags(connection, after)?;
    }
    Ok(())
}

/// See [`crate::Store::change`].
pub(super) fn change(connection: &Connection, request: &ChangeRequest) -> Outcome<Vec<Changed>> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let mut seen = BTreeSet::new();
    for id in &request.instances {
        if !seen.insert(*id) {
            continue;
        }
        match one(connection, *id)?.filter(|instance| instance.account == request.account) {
            Some(instance) => found.push(instance),
            None => missing.push(*id),
        }
    }
    if !missing.is_empty() {
        return Err(StoreError::NotFound(missing));
    }
    let mut changes = Vec::with_capacity(found.len());
    for before in found {
        let changed = Changed { after: request.change.apply(&before)?, before };
        if changed.before != changed.after {
            update(connection, &changed)?;
        }
        if let Some((cut_off, at)) = changed.cut_off(&request.change) {
            records::put_cut_off(connection, RecordedCutOff { cut_off, at })?;
        }
        changes.push(changed);
    }
    Ok(changes)
}

/// See [`crate::Store::purge`].
pub(super) fn purge(connection: &Connection, terminated_before: UnixTime) -> Outcome<u64> {
    let doomed =
        "SELECT id, account, client_token FROM instances WHERE terminated_at < ?1 ORDER BY terminated_at LIMIT ?2";
    let doomed: Vec<(String, String, Option<String>)> = connection
        .prepare_cached(doomed)
        .and_then(|mut sql| {
            let bounds = (records::time(terminated_before), PURGE_MAX);
            sql.query_map(bounds, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
        .map_err(fault::from_sqlite)?;
    for (id, ..) in &doomed {
        let sql = "DELETE FROM instances WHERE id = ?1";
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute((id,))).map_err(fault::from_sqlite)?;
    }
    for (_, account, token) in &doomed {
        let Some(token) = token else { continue };
        let sql = "DELETE FROM launches WHERE account = ?1 AND client_token = ?2 AND NOT EXISTS \
            (SELECT 1 FROM instances WHERE instances.reservation_id = launches.reservation_id \
            AND instances.account = launches.account)";
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute((account, token))).map_err(fault::from_sqlite)?;
    }
    Ok(doomed.len() as u64)
}

/// See [`crate::Store::instance`].
pub(super) fn one(connection: &Connection, id: InstanceId) -> Outcome<Option<Instance>> {
    let found = select(connection, "SELECT * FROM instances WHERE id = ?1", (id.to_string(),))?;
    Ok(found.into_iter().next())
}

/// See [`crate::Store::instances_by_id`].
pub(super) fn by_id(connection: &Connection, ids: Vec<InstanceId>) -> Outcome<Vec<Instance>> {
    let ids: BTreeSet<InstanceId> = ids.into_iter().collect();
    ids.into_iter().filter_map(|id| one(connection, id).transpose()).collect()
}

/// See [`crate::Store::instances`].
pub(super) fn page(connection: &Connection, query: InstanceQuery) -> Outcome<InstancePage> {
    // Every id comes after the empty text. One more than asked for tells whether there is a next page.
    let after = query.after.map_or_else(String::new, |id| id.to_string());
    let limit = query.limit.saturating_add(1);
    let mut instances = match query.account {
        Some(account) => {
            let sql = "SELECT * FROM instances WHERE account = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
            select(connection, sql, (account.to_string(), after, limit))?
        }
        None => select(connection, "SELECT * FROM instances WHERE id > ?1 ORDER BY id LIMIT ?2", (after, limit))?,
    };
    let more = instances.len() > query.limit as usize;
    instances.truncate(query.limit as usize);
    let next = if more { instances.last().map(|instance| instance.id) } else { None };
    Ok(InstancePage { instances, next })
}

fn select(connection: &Connection, sql: &str, parameters: impl Params) -> Outcome<Vec<Instance>> {
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query(parameters).map_err(fault::from_sqlite)?;
    let mut instances = Vec::new();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        let mut instance = from_row(row)?;
        instance.tags = tags(connection, instance.id)?;
        instance.user_data = user_data(connection, instance.id)?;
        instances.push(instance);
    }
    Ok(instances)
}

fn tags(connection: &Connection, id: InstanceId) -> Outcome<BTreeMap<String, String>> {
    connection
        .prepare_cached("SELECT tag_key, tag_value FROM instance_tags WHERE instance_id = ?1")
        .and_then(|mut sql| sql.query_map((id.to_string(),), |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(fault::from_sqlite)
}

fn user_data(connection: &Connection, id: InstanceId) -> Outcome<Option<UserData>> {
    let data: Option<Vec<u8>> = connection
        .prepare_cached("SELECT user_data FROM instance_user_data WHERE instance_id = ?1")
        .and_then(|mut sql| sql.query_row((id.to_string(),), |row| row.get(0)).optional())
        .map_err(fault::from_sqlite)?;
    data.map(UserData::new).transpose().map_err(fault::corrupt)
}

/// An instance without its tags and user data.
fn from_row(row: &Row<'_>) -> Outcome<Instance> {
    let reason: Option<String> = records::column(row, "reason_code")?;
    let state_reason = match reason {
        Some(code) => Some(StateReason { code, message: records::column(row, "reason_message")? }),
        None => None,
    };
    Ok(Instance {
        id: records::parsed(row, "id")?,
        account: records::parsed(row, "account")?,
        zone: records::parsed(row, "zone")?,
        image_id: records::column(row, "image_id")?,
        instance_type: records::column(row, "instance_type")?,
        private_address: records::parsed(row, "private_address")?,
        ipv6_address: match records::column::<Option<String>>(row, "ipv6_address")? {
            Some(_) => Some(records::parsed(row, "ipv6_address")?),
            None => None,
        },
        placement_group: records::column(row, "placement_group")?,
        placement_partition: records::column(row, "placement_partition")?,
        state: records::parsed(row, "state")?,
        launch_time: records::moment(row, "launch_time")?,
        boot_time: records::moment(row, "boot_time")?,
        boot_generation: records::column(row, "boot_generation")?,
        terminated_at: match records::column::<Option<i64>>(row, "terminated_at")? {
            Some(_) => Some(records::moment(row, "terminated_at")?),
            None => None,
        },
        state_reason,
        metadata_options: MetadataOptions {
            http_tokens: records::parsed(row, "http_tokens")?,
            http_endpoint: records::parsed(row, "http_endpoint")?,
            hop_limit: records::column(row, "hop_limit")?,
            ipv6: records::column(row, "metadata_ipv6")?,
            tags: records::column(row, "metadata_tags")?,
        },
        key_name: records::column(row, "key_name")?,
        public_key: records::column(row, "public_key")?,
        user_data: None,
        ami_launch_index: records::column(row, "ami_launch_index")?,
        reservation_id: records::column(row, "reservation_id")?,
        client_token: records::column(row, "client_token")?,
        tags: BTreeMap::new(),
        lease: records::column(row, "lease")?,
        host: host(&records::column::<String>(row, "host_id")?)?,
        attachment: attachment(
            records::column::<Option<String>>(row, "attachment_kind")?.as_deref(),
            records::column::<Option<String>>(row, "attachment_value")?.as_deref(),
        )?,
        mac: records::column::<Option<String>>(row, "attachment_mac")?.map(|text| own_mac(&text)).transpose()?,
    })
}

/// The one in the region's own process has no id.
pub(super) fn host(text: &str) -> Outcome<Option<HostId>> {
    let id = (!text.is_empty()).then(|| text.parse()).transpose();
    id.map_err(|_| fault::corrupt("instances.host_id is no id of a host"))
}

pub(super) fn attachment(kind: Option<&str>, value: Option<&str>) -> Outcome<Option<Attachment>> {
    let (Some(kind), Some(value)) = (kind, value) else { return Ok(None) };
    let attachment = Attachment::from_columns(kind, value);
    attachment.map(Some).ok_or_else(|| fault::corrupt("instances.attachment_kind is of no known kind"))
}

pub(super) fn own_mac(text: &str) -> Outcome<OwnMac> {
    OwnMac::from_column(text).ok_or_else(|| fault::corrupt("instances.attachment_mac is of no known kind"))
}
