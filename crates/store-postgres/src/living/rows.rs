//! Rows of instances, packed from where they lie.

use core::str::FromStr;
use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

use inborn_identity::{HttpEndpoint, HttpTokens, MetadataOptions, UnixTime};
use inborn_store::packed::{Kind, OwnRow, Parts, Shares};
use inborn_store::{InstanceState, PackedInstance, PackedTags, Packer, StateReason};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, FromSqlOwned, Type};

use crate::fault::{self, Fault, Outcome};
use crate::{instances, value};

/// First what many have in common, in the order in which [`kind`] and [`own`] take them. A value costs the server as much to send as to
/// read, and more than to compare: what nearly all have is not sent.
pub(super) const INSTANCES: &str = "SELECT account, zone, image_id, instance_type, placement_group, placement_partition, \
    NULLIF(http_tokens, 'required') AS http_tokens, NULLIF(http_endpoint, 'enabled') AS http_endpoint, \
    NULLIF(hop_limit, 1) AS hop_limit, NULLIF(metadata_ipv6, FALSE) AS metadata_ipv6, \
    NULLIF(metadata_tags, FALSE) AS metadata_tags, key_name, public_key, NULLIF(lease, FALSE) AS lease, \
    id, private_address, ipv6_address, NULLIF(state, 'running') AS state, \
    launch_time, NULLIF(boot_time, launch_time) AS boot_time, NULLIF(boot_generation, 1) AS boot_generation, \
    reason_code, reason_message, NULLIF(ami_launch_index, 0) AS ami_launch_index, \
    reservation_id, client_token, NULLIF(host_id, '') AS host_id, attachment_kind, attachment_value, attachment_mac \
    FROM instances WHERE state <> 'terminated'";
/// How many columns [`kind`] takes.
const COMMON: usize = 14;

/// Packs one row after the other.
pub(super) struct Packing {
    packer: Arc<Packer>,
    /// The first row of the kind of the row before.
    before: Option<(Row, Shares)>,
}

impl Packing {
    pub(super) const fn new(packer: Arc<Packer>) -> Self {
        Self { packer, before: None }
    }

    pub(super) fn pack(&mut self, row: Row) -> Outcome<PackedInstance> {
        let mut columns = Columns::of(&row);
        // Most rows say of what machines have in common what the row before said. That is neither parsed nor looked for again.
        if let Some((before, shares)) = &mut self.before
            && columns.skip_same(before, COMMON)?
        {
            return own(&mut columns, shares.take());
        }
        let kind = kind(&mut columns, &self.packer)?;
        let packed = own(&mut columns, Arc::clone(&kind))?;
        self.before = Some((row, Shares::new(kind)));
        Ok(packed)
    }
}

fn kind(columns: &mut Columns<'_>, packer: &Packer) -> Outcome<Arc<Kind>> {
    let account = columns.parsed()?;
    let [zone, image_id, instance_type] = [columns.text()?, columns.text()?, columns.text()?];
    let placement_group = columns.text_if_any()?;
    let placement_partition = columns.number_if_any()?;
    // Fields are evaluated as they stand here: in the order of the columns.
    let metadata_options = MetadataOptions {
        http_tokens: columns.parsed_if_any()?.unwrap_or(HttpTokens::Required),
        http_endpoint: columns.parsed_if_any()?.unwrap_or(HttpEndpoint::Enabled),
        hop_limit: columns.number_if_any()?.unwrap_or(1),
        ipv6: columns.flag()?,
        tags: columns.flag()?,
    };
    let [key_name, public_key] = [columns.text_if_any()?, columns.text_if_any()?];
    let parts = Parts {
        account,
        zone: &zone,
        image_id: &image_id,
        instance_type: &instance_type,
        placement_group: placement_group.as_deref(),
        placement_partition,
        metadata_options,
        key_name: key_name.as_deref(),
        public_key: public_key.as_deref(),
        user_data: None,
        lease: columns.flag()?,
    };
    packer.kind_of_rows(&parts).map_err(|_| value::strange("zone"))
}

/// What an instance has for itself, all of it but its tags.
fn own(columns: &mut Columns<'_>, kind: Arc<Kind>) -> Outcome<PackedInstance> {
    let (id, private_address, ipv6_address) = (columns.parsed()?, columns.parsed()?, columns.parsed_if_any()?);
    let state = columns.parsed_if_any()?.unwrap_or(InstanceState::Running);
    let launch_time = columns.number().map(UnixTime::from_secs)?;
    let boot_time = columns.number_if_any()?.map_or(launch_time, UnixTime::from_secs);
    let boot_generation = columns.number_if_any()?.unwrap_or(1);
    let (code, message) = (columns.owned_if_any()?, columns.owned_if_any()?);
    let ami_launch_index = columns.number_if_any()?.unwrap_or(0);
    let (reservation_id, client_token) = (columns.text()?, columns.text_if_any()?);
    let row = OwnRow {
        id,
        private_address,
        ipv6_address,
        state,
        launch_time,
        boot_time,
        boot_generation,
        terminated_at: None,
        state_reason: code.zip(message).map(|(code, message)| StateReason { code, message }),
        ami_launch_index,
        reservation_id: &reservation_id,
        client_token: client_token.as_deref(),
        tags: PackedTags::new(),
        host: instances::host(&columns.text_if_any()?.unwrap_or_default())?,
        attachment: instances::attachment(columns.owned_if_any()?, columns.owned_if_any()?)?,
        mac: columns.text_if_any()?.map(|text| instances::own_mac(&text)).transpose()?,
    };
    Ok(PackedInstance::new(kind, row))
}

/// The columns of a row, one after the other.
pub(super) struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(super) const fn of(row: &'a Row) -> Self {
        Self { row, next: 0 }
    }

    fn raw<T: FromSql<'a>>(&mut self) -> Outcome<T> {
        self.next += 1;
        self.row.try_get(self.next - 1).map_err(|error| fault::from_statement(&error))
    }

    /// Steps over the next columns if another row has the same in them.
    fn skip_same(&mut self, other: &Row, count: usize) -> Outcome<bool> {
        for column in self.next..self.next + count {
            if as_sent(self.row, column)? != as_sent(other, column)? {
                return Ok(false);
            }
        }
        self.next += count;
        Ok(true)
    }

    pub(super) fn value<T: FromSqlOwned>(&mut self) -> Outcome<T> {
        self.raw()
    }

    fn text_if_any(&mut self) -> Outcome<Option<Cow<'a, str>>> {
        let text: Option<&str> = self.raw()?;
        text.map(|text| value::unescape(text).ok_or_else(|| self.strange())).transpose()
    }

    pub(super) fn text(&mut self) -> Outcome<Cow<'a, str>> {
        self.text_if_any()?.ok_or_else(|| self.strange())
    }

    fn owned_if_any(&mut self) -> Outcome<Option<String>> {
        Ok(self.text_if_any()?.map(Cow::into_owned))
    }

    /// Nothing that is parsed has in its text what [`value::unescape`] looks for.
    fn parsed_if_any<T: FromStr>(&mut self) -> Outcome<Option<T>> {
        let text: Option<&str> = self.raw()?;
        text.map(|text| text.parse().map_err(|_| self.strange())).transpose()
    }

    pub(super) fn parsed<T: FromStr>(&mut self) -> Outcome<T> {
        self.parsed_if_any()?.ok_or_else(|| self.strange())
    }

    fn number_if_any<T: TryFrom<i64>>(&mut self) -> Outcome<Option<T>> {
        let number: Option<i64> = self.raw()?;
        number.map(|number| T::try_from(number).map_err(|_| self.strange())).transpose()
    }

    fn number<T: TryFrom<i64>>(&mut self) -> Outcome<T> {
        self.number_if_any()?.ok_or_else(|| self.strange())
    }

    /// One that is not sent where it is not set.
    fn flag(&mut self) -> Outcome<bool> {
        Ok(self.raw::<Option<bool>>()?.unwrap_or(false))
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

fn as_sent(row: &Row, column: usize) -> Outcome<AsSent<'_>> {
    row.try_get(column).map_err(|error| fault::from_statement(&error))
}

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
