//! All instances at once, for a mirror in memory: three tables of one moment, each read in the order in which it lies there, row after
//! row as they arrive. The server sends no more than are taken.

use core::pin::{Pin, pin};
use core::str::FromStr;
use core::time::Duration;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use deadpool_postgres::{Object, Transaction};
use futures_util::{FutureExt as _, TryStreamExt as _};
use inborn_identity::{InstanceId, MetadataOptions, UnixTime};
use inborn_store::{Instance, Living, PackedTags, Packer, StateReason, StoreError, UserData};
use tokio::sync::mpsc::Sender;
use tokio_postgres::types::{FromSql, FromSqlOwned, Type};
use tokio_postgres::{IsolationLevel, Row, RowStream};

use crate::fault::{self, Fault, Outcome};
use crate::instances;
use crate::store::PostgresStore;
use crate::value;

/// Rows of a part.
const TOGETHER: u32 = 4096;
const _: () = assert!(TOGETHER <= Living::PART_MAX);
/// User data is long: so many are a part.
const USER_DATA_TOGETHER: u32 = 256;

/// First what many have in common, in the order in which [`common`] and [`own`] take them.
const INSTANCES: &str = "SELECT account, zone, image_id, instance_type, placement_group, placement_partition, http_tokens, \
    http_endpoint, hop_limit, metadata_ipv6, metadata_tags, key_name, public_key, lease, \
    id, private_address, ipv6_address, state, launch_time, boot_time, boot_generation, reason_code, reason_message, \
    ami_launch_index, reservation_id, client_token, host_id, attachment_kind, attachment_value, attachment_mac \
    FROM instances WHERE state <> 'terminated'";
/// How many columns [`common`] takes.
const COMMON: usize = 14;

/// Those of one instance were written one after the other, as a rule.
const TAGS: &str = "SELECT instance_id, tag_key, tag_value FROM instance_tags";
const USER_DATA: &str = "SELECT instance_id, user_data FROM instance_user_data";

/// A statement has a time, and this one takes as long as there are machines. What is waited for is bounded row by row.
const AS_LONG_AS_IT_TAKES: &str = "SET LOCAL statement_timeout = 0";

/// Why there are no more rows.
enum Stop {
    Fault(Fault),
    /// Nobody listens any more.
    Unheard,
}

impl<F: Into<Fault>> From<F> for Stop {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

impl PostgresStore {
    /// See [`inborn_store::Store::living`].
    pub(crate) async fn send_living(&self, packer: Arc<Packer>, parts: Sender<Living>) -> Result<(), StoreError> {
        let _on_the_way = self.under_way().await;
        let mut attempt = 1;
        loop {
            let mut client = self.connection().await?;
            let mut sending =
                Sending { packer: &packer, parts: &parts, patience: self.options().patience(), is_begun: false };
            let Err(stop) = sending.send(&mut client).await else { return Ok(()) };
            // Rows may still be on their way on this connection.
            drop(Object::take(client));
            match stop {
                Stop::Unheard => return Ok(()),
                Stop::Fault(Fault::Final(error)) => return Err(error),
                // A connection that was ended while it lay idle. Where something was sent, it would come twice.
                Stop::Fault(Fault::Again(_)) if !sending.is_begun && attempt <= self.options().connections => {
                    attempt += 1
                }
                Stop::Fault(Fault::Again(error)) => return Err(error),
            }
        }
    }
}

/// Where rows go, and how long is waited for one.
struct Sending<'a> {
    packer: &'a Packer,
    parts: &'a Sender<Living>,
    patience: Duration,
    /// Whether anything was sent.
    is_begun: bool,
}

impl Sending<'_> {
    async fn send(&mut self, client: &mut Object) -> Result<(), Stop> {
        let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = builder.start().await.map_err(told)?;
        transaction.batch_execute(AS_LONG_AS_IT_TAKES).await.map_err(told)?;
        self.send_instances(&transaction).await?;
        self.send_tags(&transaction).await?;
        self.send_user_data(&transaction).await?;
        transaction.commit().await.map_err(told)?;
        Ok(())
    }

    async fn part(&mut self, part: Living) -> Result<(), Stop> {
        self.is_begun = true;
        self.parts.send(part).await.map_err(|_| Stop::Unheard)
    }

    async fn send_instances(&mut self, transaction: &Transaction<'_>) -> Result<(), Stop> {
        let mut rows = pin!(stream(transaction, INSTANCES).await?);
        let mut before: Option<(Row, Instance)> = None;
        let mut found = Vec::new();
        while let Some(row) = self.next(rows.as_mut()).await? {
            let mut columns = Columns { row: &row, next: 0 };
            // Most rows say of what machines have in common what the row before said. That is not parsed again.
            let mut instance = match before {
                Some((row_before, instance)) if columns.skip_same(&row_before, COMMON)? => instance,
                _ => common(&mut columns)?,
            };
            own(&mut columns, &mut instance)?;
            found.push(self.packer.pack(&instance));
            before = Some((row, instance));
            if found.len() >= TOGETHER as usize {
                self.part(Living::Instances(core::mem::take(&mut found))).await?;
            }
        }
        if found.is_empty() { Ok(()) } else { self.part(Living::Instances(found)).await }
    }

    async fn send_tags(&mut self, transaction: &Transaction<'_>) -> Result<(), Stop> {
        let mut rows = pin!(stream(transaction, TAGS).await?);
        let mut found: Vec<(InstanceId, PackedTags)> = Vec::new();
        let mut count = 0;
        while let Some(row) = self.next(rows.as_mut()).await? {
            let mut columns = Columns { row: &row, next: 0 };
            let id = columns.parsed()?;
            if found.last().is_none_or(|(last, _)| *last != id) {
                found.push((id, PackedTags::new()));
            }
            let (key, value) = (columns.text()?, columns.text()?);
            if let Some((_, tags)) = found.last_mut() {
                tags.insert(&key, &value);
            }
            count += 1;
            if count >= TOGETHER {
                count = 0;
                self.part(Living::Tags(core::mem::take(&mut found))).await?;
            }
        }
        if found.is_empty() { Ok(()) } else { self.part(Living::Tags(found)).await }
    }

    async fn send_user_data(&mut self, transaction: &Transaction<'_>) -> Result<(), Stop> {
        let mut rows = pin!(stream(transaction, USER_DATA).await?);
        let mut found = Vec::new();
        while let Some(row) = self.next(rows.as_mut()).await? {
            let mut columns = Columns { row: &row, next: 0 };
            let id = columns.parsed()?;
            found.push((id, UserData::new(columns.value()?).map_err(fault::corrupt)?));
            if found.len() >= USER_DATA_TOGETHER as usize {
                self.part(Living::UserData(core::mem::take(&mut found))).await?;
            }
        }
        if found.is_empty() { Ok(()) } else { self.part(Living::UserData(found)).await }
    }

    /// The next row, waited for only if it is not there.
    async fn next(&self, mut rows: Pin<&mut RowStream>) -> Result<Option<Row>, Stop> {
        if let Some(next) = rows.try_next().now_or_never() {
            return next.map_err(|error| told(error).into());
        }
        match tokio::time::timeout(self.patience, rows.try_next()).await {
            Ok(next) => next.map_err(|error| told(error).into()),
            Err(_) => Err(StoreError::Unavailable("it did not answer in time".to_owned()).into()),
        }
    }
}

async fn stream(transaction: &Transaction<'_>, sql: &str) -> Outcome<RowStream> {
    let statement = transaction.prepare_cached(sql).await.map_err(told)?;
    transaction.query_raw(&statement, core::iter::empty::<i64>()).await.map_err(told)
}

fn told(error: tokio_postgres::Error) -> Fault {
    fault::from_statement(&error)
}

/// An instance of which there is nothing yet but what it has in common with others.
fn common(columns: &mut Columns<'_>) -> Outcome<Instance> {
    // Fields are evaluated as they stand here: in the order of the columns.
    Ok(Instance {
        account: columns.parsed()?,
        zone: columns.parsed()?,
        image_id: columns.text()?.into_owned(),
        instance_type: columns.text()?.into_owned(),
        placement_group: columns.owned_if_any()?,
        placement_partition: columns.number_if_any()?,
        metadata_options: MetadataOptions {
            http_tokens: columns.parsed()?,
            http_endpoint: columns.parsed()?,
            hop_limit: columns.number()?,
            ipv6: columns.value()?,
            tags: columns.value()?,
        },
        key_name: columns.owned_if_any()?,
        public_key: columns.owned_if_any()?,
        lease: columns.value()?,
        id: InstanceId::from_bytes([0; InstanceId::BYTES]),
        private_address: core::net::Ipv4Addr::UNSPECIFIED,
        ipv6_address: None,
        state: inborn_store::InstanceState::Running,
        launch_time: UnixTime::from_secs(0),
        boot_time: UnixTime::from_secs(0),
        boot_generation: 0,
        terminated_at: None,
        state_reason: None,
        user_data: None,
        ami_launch_index: 0,
        reservation_id: String::new(),
        client_token: None,
        tags: BTreeMap::new(),
        host: None,
        attachment: None,
        mac: None,
    })
}

/// What an instance has for itself, all of it.
fn own(columns: &mut Columns<'_>, instance: &mut Instance) -> Outcome<()> {
    instance.id = columns.parsed()?;
    instance.private_address = columns.parsed()?;
    instance.ipv6_address = columns.parsed_if_any()?;
    instance.state = columns.parsed()?;
    instance.launch_time = columns.moment()?;
    instance.boot_time = columns.moment()?;
    instance.boot_generation = columns.number()?;
    let (code, message) = (columns.owned_if_any()?, columns.owned_if_any()?);
    instance.state_reason = code.zip(message).map(|(code, message)| StateReason { code, message });
    instance.ami_launch_index = columns.number()?;
    columns.text()?.as_ref().clone_into(&mut instance.reservation_id);
    instance.client_token = columns.owned_if_any()?;
    instance.host = instances::host(&columns.text()?)?;
    instance.attachment = instances::attachment(columns.owned_if_any()?, columns.owned_if_any()?)?;
    instance.mac = columns.text_if_any()?.map(|text| instances::own_mac(&text)).transpose()?;
    Ok(())
}

/// The columns of a row, one after the other.
struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Columns<'a> {
    fn raw<T: FromSql<'a>>(&mut self) -> Outcome<T> {
        self.next += 1;
        self.row.try_get(self.next - 1).map_err(|error| fault::from_statement(&error))
    }

    /// Steps over the next columns if another row has the same in them.
    fn skip_same(&mut self, other: &Row, count: usize) -> Outcome<bool> {
        let bytes = |row: &'a Row, column| row.try_get::<_, AsSent<'a>>(column);
        for column in self.next..self.next + count {
            let other: AsSent<'_> = other.try_get(column).map_err(|error| fault::from_statement(&error))?;
            if bytes(self.row, column).map_err(|error| fault::from_statement(&error))? != other {
                return Ok(false);
            }
        }
        self.next += count;
        Ok(true)
    }

    fn value<T: FromSqlOwned>(&mut self) -> Outcome<T> {
        self.raw()
    }

    fn text_if_any(&mut self) -> Outcome<Option<Cow<'a, str>>> {
        let text: Option<&str> = self.raw()?;
        text.map(|text| value::unescape(text).ok_or_else(|| self.strange())).transpose()
    }

    fn text(&mut self) -> Outcome<Cow<'a, str>> {
        self.text_if_any()?.ok_or_else(|| self.strange())
    }

    fn owned_if_any(&mut self) -> Outcome<Option<String>> {
        Ok(self.text_if_any()?.map(Cow::into_owned))
    }

    fn parsed_if_any<T: FromStr>(&mut self) -> Outcome<Option<T>> {
        self.text_if_any()?.map(|text| text.parse().map_err(|_| self.strange())).transpose()
    }

    fn parsed<T: FromStr>(&mut self) -> Outcome<T> {
        self.parsed_if_any()?.ok_or_else(|| self.strange())
    }

    fn number_if_any<T: TryFrom<i64>>(&mut self) -> Outcome<Option<T>> {
        let number: Option<i64> = self.raw()?;
        number.map(|number| T::try_from(number).map_err(|_| self.strange())).transpose()
    }

    fn number<T: TryFrom<i64>>(&mut self) -> Outcome<T> {
        self.number_if_any()?.ok_or_else(|| self.strange())
    }

    fn moment(&mut self) -> Outcome<UnixTime> {
        self.number().map(UnixTime::from_secs)
    }

    /// The column that was taken last holds something else than we write.
    fn strange(&self) -> Fault {
        let column = self.row.columns().get(self.next.saturating_sub(1));
        value::strange(column.map_or("?", tokio_postgres::Column::name))
    }
}

/// A value as it was sent, of whatever type.
#[derive(PartialEq)]
struct AsSent<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for AsSent<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
