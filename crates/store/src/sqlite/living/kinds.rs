//! What instances that are read have in common: nearly half of a row says what the row before it said, and that is neither parsed
//! nor looked for again.

use std::sync::Arc;

use inborn_identity::MetadataOptions;
use rusqlite::types::Value;

use super::super::fault::{self, Outcome};
use super::Columns;
use crate::Packer;
use crate::packed::{Kind, Parts, Shares};

/// How many columns [`kind`] takes.
const COLUMNS: usize = 14;

/// The kind of the row that was read last.
#[derive(Default)]
pub(super) struct KindBefore {
    values: Vec<Value>,
    shares: Option<Shares>,
}

impl KindBefore {
    /// The kind of a row of which the columns of its kind are next.
    pub(super) fn of(&mut self, columns: &mut Columns<'_, '_>, packer: &Packer) -> Outcome<Arc<Kind>> {
        if let Some(shares) = &mut self.shares
            && columns.skip_same(&self.values)?
        {
            return Ok(shares.take());
        }
        self.shares = None;
        let mut again = Columns { row: columns.row, next: columns.next };
        let kind = kind(columns, packer)?;
        self.values.clear();
        for _ in 0..COLUMNS {
            self.values.push(again.value()?);
        }
        self.shares = Some(Shares::new(Arc::clone(&kind)));
        Ok(kind)
    }
}

fn kind(columns: &mut Columns<'_, '_>, packer: &Packer) -> Outcome<Arc<Kind>> {
    // Fields are evaluated as they stand here: in the order of the columns.
    let parts = Parts {
        account: columns.parsed()?,
        zone: columns.text()?,
        image_id: columns.text()?,
        instance_type: columns.text()?,
        placement_group: columns.text_if_any()?,
        placement_partition: columns.value()?,
        metadata_options: MetadataOptions {
            http_tokens: columns.parsed()?,
            http_endpoint: columns.parsed()?,
            hop_limit: columns.value()?,
            ipv6: columns.value()?,
            tags: columns.value()?,
        },
        key_name: columns.text_if_any()?,
        public_key: columns.text_if_any()?,
        user_data: None,
        lease: columns.value()?,
    };
    packer.kind_of_rows(&parts).map_err(fault::corrupt)
}
