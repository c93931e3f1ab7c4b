//! Instances as rows: launch, list, change, purge.

use std::collections::{BTreeMap, BTreeSet};

use inborn_identity::{AccountId, HostId, InstanceId, MetadataOptions, UnixTime};
use inborn_store::{
    Attachment, ChangeRequest, Changed, Conflict, Instance, InstancePage, InstanceQuery, LaunchOutcome, LaunchRequest,
    OwnMac, PURGE_MAX, RecordedCutOff, StateReason, StoreError, UserData,
};
use tokio_postgres::error::SqlState;

use crate::fault::{self, Fault, Outcome};
use crate::transaction::{Query, Session};
use crate::value::{Insertion, Row, Value, values};
use crate::{hosts, launches, records};

/// All columns by name: a migration of a newer program may add some, and `*` would break statements that are prepared. In the order
/// of [`row`].
macro_rules! columns {
    () => {
        "id, account, zone, image_id, instance_type, private_address, state, launch_time, boot_time, boot_generation, \
         terminated_at, reason_code, reason_message, http_tokens, http_endpoint, hop_limit, metadata_ipv6, metadata_tags, \
         key_name, ami_launch_index, reservation_id, client_token, lease, attachment_kind, attachment_value, \
         attachment_mac, public_key, ipv6_address, placement_group, placement_partition, host_id"
    };
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM instances");

/// Instances, of which it takes the [`columns`].
pub(crate) const INSERT: Insertion = Insertion { one: INSERT_ONE, many: INSERT_MANY };

const INSERT_ONE: &str = concat!(
    "INSERT INTO instances (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, \
     $24, $25, $26, $27, $28, $29, $30, $31)"
);

const INSERT_MANY: &str = concat!(
    "INSERT INTO instances (",
    columns!(),
    ") SELECT ",
    columns!(),
    " FROM UNNEST(CAST($1 AS TEXT[]), CAST($2 AS TEXT[]), CAST($3 AS TEXT[]), CAST($4 AS TEXT[]), CAST($5 AS TEXT[]), \
     CAST($6 AS TEXT[]), CAST($7 AS TEXT[]), CAST($8 AS BIGINT[]), CAST($9 AS BIGINT[]), CAST($10 AS BIGINT[]), \
     CAST($11 AS BIGINT[]), CAST($12 AS TEXT[]), CAST($13 AS TEXT[]), CAST($14 AS TEXT[]), CAST($15 AS TEXT[]), \
     CAST($16 AS BIGINT[]), CAST($17 AS BOOLEAN[]), CAST($18 AS BOOLEAN[]), CAST($19 AS TEXT[]), CAST($20 AS BIGINT[]), \
     CAST($21 AS TEXT[]), CAST($22 AS TEXT[]), CAST($23 AS BOOLEAN[]), CAST($24 AS TEXT[]), CAST($25 AS TEXT[]), \
     CAST($26 AS TEXT[]), CAST($27 AS TEXT[]), CAST($28 AS TEXT[]), CAST($29 AS TEXT[]), CAST($30 AS BIGINT[]), \
     CAST($31 AS TEXT[])) AS launched (",
    columns!(),
    ")"
);

/// Everything that a change can change.
const UPDATE: &str = "UPDATE instances SET state = $2, launch_time = $3, boot_time = $4, boot_generation = $5, \
    terminated_at = $6, reason_code = $7, reason_message = $8, http_tokens = $9, http_endpoint = $10, hop_limit = $11, \
    metadata_ipv6 = $12, metadata_tags = $13, attachment_kind = $14, attachment_value = $15, attachment_mac = $16 \
    WHERE id = $1";

pub(crate) const INSTANCE: &str = "an instance";

/// See [`inborn_store::Store::launch`].
pub(crate) async fn launch(session: &Session<'_>, request: &LaunchRequest) -> Outcome<LaunchOutcome> {
    if let Some(token) = &request.client_token {
        if let Some((fingerprint, reservation)) = earlier_launch(session, request.account, token).await? {
            if fingerprint != request.fingerprint {
                return Ok(LaunchOutcome::Mismatch);
            }
            let account = Value::shown(request.account);
            return Ok(LaunchOutcome::Replayed(reserved(session, account, Value::all([reservation])).await?));
        }
        let sql = "INSERT INTO launches (account, client_token, fingerprint, reservation_id) VALUES ($1, $2, $3, $4)";
        let row: &[Value] =
            values![request.account.to_string(), token, request.fingerprint.as_slice(), &request.reservation_id];
        // Another has launched with it meanwhile: what it launched is seen by the next attempt.
        session.attempt(sql, row).await.map_err(|error| match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => Fault::Again(StoreError::Busy),
            _ => fault::from_statement(&error),
        })?;
    }
    let named: BTreeSet<HostId> = request.instances.iter().filter_map(|instance| instance.host).collect();
    for id in named {
        if !hosts::claim(session, id).await?.is_some_and(|host| host.takes(request.account)) {
            return Err(Conflict::HostRefused(id).into());
        }
    }
    // Both an id and an attachment may be taken. We name the id, and after a refusal there is no asking any more.
    let ids = Value::all(request.instances.iter().map(|instance| instance.id));
    if session.row("SELECT id FROM instances WHERE id = ANY($1) LIMIT 1", &[ids]).await?.is_some() {
        return Err(Conflict::Exists(INSTANCE).into());
    }
    let (sql, rows) = INSERT.of(request.instances.iter().map(row).collect())?;
    session.attempt(sql, &rows).await.map_err(|error| refused(&error))?;
    insert_user_data(session, &request.instances).await?;
    insert_tags(session, &request.instances).await?;
    Ok(LaunchOutcome::New(request.launched()))
}

/// As [`launch`], of one of which nobody knows whether an earlier attempt has taken effect, or still will. Ids are used once, so at most
/// one of the two does: if the earlier one has, it is found here by its ids; if it is not over, this one waits for its end at the first
/// of them, or at a place. Whatever else refuses this one has refused the earlier one, too.
pub(crate) async fn launch_again(session: &Session<'_>, request: &LaunchRequest) -> Outcome<LaunchOutcome> {
    let ids = Value::all(request.instances.iter().map(|instance| instance.id));
    let sql = "SELECT account, reservation_id FROM instances WHERE id = ANY($1)";
    let found = session.rows(sql, &[ids]).await?;
    let account = request.account.to_string();
    for row in &found {
        if row.text("account")? != account || row.text("reservation_id")? != request.reservation_id {
            return Err(Conflict::Exists(INSTANCE).into());
        }
    }
    if !found.is_empty() {
        return Ok(LaunchOutcome::New(request.launched()));
    }
    if launches::is_taken_by_another(session, request).await? {
        return Err(Conflict::AttachmentTaken.into());
    }
    launch(session, request).await.map_err(|fault| match fault {
        // By the earlier one, perhaps, which was not seen before: the next attempt finds out.
        Fault::Final(StoreError::Conflict(Conflict::Exists(_) | Conflict::AttachmentTaken)) => {
            Fault::Again(StoreError::Busy)
        }
        fault => fault,
    })
}

/// All of an account's reservations, in the order of their launch indexes.
pub(crate) async fn reserved(session: &Session<'_>, account: Value, reservations: Value) -> Outcome<Vec<Instance>> {
    let sql = format!("{SELECT} WHERE reservation_id = ANY($1) AND account = $2 ORDER BY ami_launch_index");
    select(session, &Query::new(&sql, &[reservations, account])).await
}

async fn earlier_launch(session: &Session<'_>, account: AccountId, token: &str) -> Outcome<Option<([u8; 32], String)>> {
    let sql = "SELECT fingerprint, reservation_id FROM launches WHERE account = $1 AND client_token = $2";
    let row = session.row(sql, values![account.to_string(), token]).await?;
    row.map(|row| Ok((fingerprint(&row)?, row.text("reservation_id")?))).transpose()
}

/// The digest of an earlier launch's parameters.
pub(crate) fn fingerprint(row: &Row) -> Outcome<[u8; 32]> {
    let fingerprint = row.bytes("fingerprint")?.try_into();
    fingerprint.map_err(|_| fault::corrupt("a fingerprint has not 32 bytes"))
}

/// The values of one instance.
pub(crate) fn row(instance: &Instance) -> Vec<Value> {
    let (attachment_kind, attachment_value) = instance.attachment.as_ref().map(Attachment::to_columns).unzip();
    let options = &instance.metadata_options;
    let row: &[Value] = values![
        instance.id.to_string(),
        instance.account.to_string(),
        instance.zone.as_str(),
        &instance.image_id,
        &instance.instance_type,
        instance.private_address.to_string(),
        instance.state.as_str(),
        instance.launch_time,
        instance.boot_time,
        instance.boot_generation,
        instance.terminated_at,
        instance.state_reason.as_ref().map(|reason| reason.code.as_str()),
        instance.state_reason.as_ref().map(|reason| reason.message.as_str()),
        options.http_tokens.to_string(),
        options.http_endpoint.to_string(),
        options.hop_limit,
        options.ipv6,
        options.tags,
        &instance.key_name,
        instance.ami_launch_index,
        &instance.reservation_id,
        &instance.client_token,
        instance.lease,
        attachment_kind,
        attachment_value,
        instance.mac.map(OwnMac::to_column),
        &instance.public_key,
        instance.ipv6_address.map(|address| address.to_string()),
        &instance.placement_group,
        instance.placement_partition,
        instance.host.map(|host| host.to_string()).unwrap_or_default(),
    ];
    row.to_vec()
}

/// The one unique index of instances beside that of their ids is that of their attachments.
fn refused(error: &tokio_postgres::Error) -> Fault {
    match error.as_db_error().and_then(|told| told.constraint()) {
        Some("instances_by_attachment") => Conflict::AttachmentTaken.into(),
        _ => fault::from_insertion(error, INSTANCE),
    }
}

/// User data, of which it takes the columns of [`user_data`].
pub(crate) const INSERT_USER_DATA: Insertion = Insertion {
    one: "INSERT INTO instance_user_data (instance_id, user_data) VALUES ($1, $2)",
    many: "INSERT INTO instance_user_data (instance_id, user_data) \
        SELECT instance_id, user_data FROM UNNEST(CAST($1 AS TEXT[]), CAST($2 AS BYTEA[])) AS given (instance_id, user_data)",
};

/// A row: of whose instance, and what.
pub(crate) fn user_data(instance: &Instance) -> Option<Vec<Value>> {
    let data = instance.user_data.as_ref()?;
    Some(vec![Value::shown(instance.id), data.as_bytes().into()])
}

async fn insert_user_data(session: &Session<'_>, instances: &[Instance]) -> Outcome<()> {
    session.insert(&INSERT_USER_DATA, instances.iter().filter_map(user_data)).await
}

/// Tags, of which it takes the columns of [`tags`].
pub(crate) const INSERT_TAGS: Insertion = Insertion {
    one: "INSERT INTO instance_tags (instance_id, tag_key, tag_value) VALUES ($1, $2, $3)",
    many: "INSERT INTO instance_tags (instance_id, tag_key, tag_value) \
        SELECT instance_id, tag_key, tag_value FROM UNNEST(CAST($1 AS TEXT[]), CAST($2 AS TEXT[]), CAST($3 AS TEXT[])) \
        AS given (instance_id, tag_key, tag_value)",
};

/// Rows: of which instance, key, value.
pub(crate) fn tags(instance: &Instance) -> impl Iterator<Item = Vec<Value>> {
    let id = Value::shown(instance.id);
    instance.tags.iter().map(move |(key, value)| vec![id.clone(), key.into(), value.into()])
}

async fn insert_tags(session: &Session<'_>, instances: &[Instance]) -> Outcome<()> {
    session.insert(&INSERT_TAGS, instances.iter().flat_map(tags)).await
}

/// Writes the row of the instance whatever has changed, tags alone, too: of two who change one instance the second begins
/// again.
async fn update(session: &Session<'_>, Changed { before, after }: &Changed) -> Outcome<()> {
    let (attachment_kind, attachment_value) = after.attachment.as_ref().map(Attachment::to_columns).unzip();
    let options = &after.metadata_options;
    let row: &[Value] = values![
        after.id.to_string(),
        after.state.as_str(),
        after.launch_time,
        after.boot_time,
        after.boot_generation,
        after.terminated_at,
        after.state_reason.as_ref().map(|reason| reason.code.as_str()),
        after.state_reason.as_ref().map(|reason| reason.message.as_str()),
        options.http_tokens.to_string(),
        options.http_endpoint.to_string(),
        options.hop_limit,
        options.ipv6,
        options.tags,
        attachment_kind,
        attachment_value,
        after.mac.map(OwnMac::to_column),
    ];
    session.attempt(UPDATE, row).await.map_err(|error| refused(&error))?;
    let id = after.id.to_string();
    if before.user_data != after.user_data {
        session.run("DELETE FROM instance_user_data WHERE instance_id = $1", values![&id]).await?;
        insert_user_data(session, core::slice::from_ref(after)).await?;
    }
    if before.tags != after.tags {
        session.run("DELETE FROM instance_tags WHERE instance_id = $1", values![&id]).await?;
        insert_tags(session, core::slice::from_ref(after)).await?;
    }
    Ok(())
}

/// See [`inborn_store::Store::change`].
pub(crate) async fn change(session: &Session<'_>, request: &ChangeRequest) -> Outcome<Vec<Changed>> {
    let query = Query::new(&format!("{SELECT} WHERE id = ANY($1)"), &[Value::all(&request.instances)]);
    let mut there: BTreeMap<InstanceId, Instance> = select(session, &query)
        .await?
        .into_iter()
        .filter(|instance| instance.account == request.account)
        .map(|instance| (instance.id, instance))
        .collect();
    let mut seen = BTreeSet::new();
    let named: Vec<_> = request.instances.iter().copied().filter(|id| seen.insert(*id)).collect();
    let missing: Vec<_> = named.iter().copied().filter(|id| !there.contains_key(id)).collect();
    if !missing.is_empty() {
        return Err(StoreError::NotFound(missing).into());
    }
    let mut changes = Vec::with_capacity(named.len());
    for before in named.into_iter().filter_map(|id| there.remove(&id)) {
        let changed = Changed { after: request.change.apply(&before)?, before };
        if changed.before != changed.after {
            update(session, &changed).await?;
        }
        if let Some((cut_off, at)) = changed.cut_off(&request.change) {
            records::put_cut_off(session, &RecordedCutOff { cut_off, at }).await?;
        }
        changes.push(changed);
    }
    Ok(changes)
}

/// See [`inborn_store::Store::purge`].
pub(crate) async fn purge(session: &Session<'_>, terminated_before: &UnixTime) -> Outcome<u64> {
    let sql = "DELETE FROM instances WHERE id IN \
        (SELECT id FROM instances WHERE terminated_at < $1 ORDER BY terminated_at LIMIT $2) RETURNING reservation_id";
    let doomed = session.rows(sql, values![*terminated_before, PURGE_MAX]).await?;
    let reservations: BTreeSet<_> = doomed.iter().map(|row| row.text("reservation_id")).collect::<Outcome<_>>()?;
    let sql = "DELETE FROM launches WHERE reservation_id = ANY($1) AND NOT EXISTS \
        (SELECT 1 FROM instances WHERE instances.reservation_id = launches.reservation_id \
        AND instances.account = launches.account)";
    session.run(sql, &[Value::all(reservations)]).await?;
    Ok(doomed.len() as u64)
}

/// See [`inborn_store::Store::instance`].
pub(crate) async fn one(session: &Session<'_>, id: &InstanceId) -> Outcome<Option<Instance>> {
    let query = Query::new(&format!("{SELECT} WHERE id = $1"), &[Value::shown(id)]);
    Ok(select(session, &query).await?.into_iter().next())
}

/// See [`inborn_store::Store::instances_by_id`].
pub(crate) async fn by_id(session: &Session<'_>, ids: &Vec<InstanceId>) -> Outcome<Vec<Instance>> {
    let query = Query::new(&format!("{SELECT} WHERE id = ANY($1) ORDER BY id"), &[Value::all(ids)]);
    select(session, &query).await
}

/// Whether the instance is there; `Some(true)`: and not terminated.
pub(crate) async fn is_alive(session: &Session<'_>, id: InstanceId) -> Outcome<Option<bool>> {
    let row = session.row("SELECT state FROM instances WHERE id = $1", &[Value::shown(id)]).await?;
    row.map(|row| Ok(row.text("state")? != "terminated")).transpose()
}

/// Refuses what is said of an instance that is not there or terminated.
pub(crate) async fn expect_alive(session: &Session<'_>, id: InstanceId) -> Outcome<()> {
    match is_alive(session, id).await? {
        Some(true) => Ok(()),
        _ => Err(StoreError::NotFound(vec![id]).into()),
    }
}

/// See [`inborn_store::Store::instances`].
pub(crate) async fn page(session: &Session<'_>, query: &InstanceQuery) -> Outcome<InstancePage> {
    // Every id comes after the empty text. One more than asked for tells whether there is a next page.
    let after = query.after.map_or_else(String::new, |id| id.to_string());
    let mut select_page = Query::new(&format!("{SELECT} WHERE id > $1"), values![after]);
    if let Some(account) = query.account {
        let account = select_page.value(account.to_string());
        select_page.push(&format!(" AND account = {account}"));
    }
    let limit = select_page.value(query.limit.saturating_add(1));
    select_page.push(&format!(" ORDER BY id LIMIT {limit}"));
    let mut instances = select(session, &select_page).await?;
    let more = instances.len() > query.limit as usize;
    instances.truncate(query.limit as usize);
    let next = if more { instances.last().map(|instance| instance.id) } else { None };
    Ok(InstancePage { instances, next })
}

/// Three statements, however many instances there are.
async fn select(session: &Session<'_>, query: &Query) -> Outcome<Vec<Instance>> {
    let mut instances: Vec<Instance> = query.rows(session).await?.iter().map(from_row).collect::<Outcome<_>>()?;
    if instances.is_empty() {
        return Ok(instances);
    }
    let ids = [Value::all(instances.iter().map(|instance| instance.id))];
    let mut tags: BTreeMap<InstanceId, BTreeMap<String, String>> = BTreeMap::new();
    let sql = "SELECT instance_id, tag_key, tag_value FROM instance_tags WHERE instance_id = ANY($1)";
    for row in session.rows(sql, &ids).await? {
        let of = tags.entry(row.parsed("instance_id")?).or_default();
        of.insert(row.text("tag_key")?, row.text("tag_value")?);
    }
    let mut user_data = BTreeMap::new();
    let sql = "SELECT instance_id, user_data FROM instance_user_data WHERE instance_id = ANY($1)";
    for row in session.rows(sql, &ids).await? {
        let data = UserData::new(row.bytes("user_data")?).map_err(fault::corrupt)?;
        user_data.insert(row.parsed::<InstanceId>("instance_id")?, data);
    }
    for instance in &mut instances {
        instance.tags = tags.remove(&instance.id).unwrap_or_default();
        instance.user_data = user_data.remove(&instance.id);
    }
    Ok(instances)
}

/// An instance without its tags and user data.
fn from_row(row: &Row) -> Outcome<Instance> {
    let state_reason = match row.text_if_any("reason_code")? {
        Some(code) => Some(StateReason { code, message: row.text("reason_message")? }),
        None => None,
    };
    Ok(Instance {
        id: row.parsed("id")?,
        account: row.parsed("account")?,
        zone: row.parsed("zone")?,
        image_id: row.text("image_id")?,
        instance_type: row.text("instance_type")?,
        private_address: row.parsed("private_address")?,
        ipv6_address: row.parsed_if_any("ipv6_address")?,
        placement_group: row.text_if_any("placement_group")?,
        placement_partition: row.number_if_any("placement_partition")?,
        state: row.parsed("state")?,
        launch_time: row.moment("launch_time")?,
        boot_time: row.moment("boot_time")?,
        boot_generation: row.number("boot_generation")?,
        terminated_at: row.moment_if_any("terminated_at")?,
        state_reason,
        metadata_options: MetadataOptions {
            http_tokens: row.parsed("http_tokens")?,
            http_endpoint: row.parsed("http_endpoint")?,
            hop_limit: row.number("hop_limit")?,
            ipv6: row.flag("metadata_ipv6")?,
            tags: row.flag("metadata_tags")?,
        },
        key_name: row.text_if_any("key_name")?,
        public_key: row.text_if_any("public_key")?,
        user_data: None,
        ami_launch_index: row.number("ami_launch_index")?,
        reservation_id: row.text("reservation_id")?,
        client_token: row.text_if_any("client_token")?,
        tags: BTreeMap::new(),
        lease: row.flag("lease")?,
        host: host(&row.text("host_id")?)?,
        attachment: attachment(row.text_if_any("attachment_kind")?, row.text_if_any("attachment_value")?)?,
        mac: row.text_if_any("attachment_mac")?.map(|text| own_mac(&text)).transpose()?,
    })
}

/// The one in the region's own process has no id.
pub(crate) fn host(text: &str) -> Outcome<Option<HostId>> {
    let id = (!text.is_empty()).then(|| text.parse()).transpose();
    id.map_err(|_| fault::corrupt("instances.host_id is no id of a host"))
}

pub(crate) fn attachment(kind: Option<String>, value: Option<String>) -> Outcome<Option<Attachment>> {
    let (Some(kind), Some(value)) = (kind, value) else { return Ok(None) };
    let attachment = Attachment::from_columns(&kind, &value);
    attachment.map(Some).ok_or_else(|| fault::corrupt("instances.attachment_kind is of no known kind"))
}

pub(crate) fn own_mac(text: &str) -> Outcome<OwnMac> {
    OwnMac::from_column(text).ok_or_else(|| fault::corrupt("instances.attachment_mac is of no known kind"))
}
