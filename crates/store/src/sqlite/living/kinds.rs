//! What instances that are read have in common: nearly half of a row says what the row before it said, and that is neither parsed
//! nor looked for again.

use std::sync::Arc;

use inborn_identity::MetadataOptions;
use rusqlite::types::Value;

use super::super::fault::{self, Outcome};
use super::Columns;
use crate::Packer;
use crate::packed::{Kind, Parts};

/// How many columns [`kind`] takes.
const COLUMNS: usize = 14;

/// Shares of a kind that are taken together. Each is counted where all who read have to look: one at a time, readers would wait for
/// each other's counting.
const SHARES: usize = 64;

/// The kind of the row that was read last.
#[derive(Default)]
pub(super) struct KindBefore {
    values: Vec<Value>,
    kind: Option<Arc<Kind>>,
    /// To give away.
    shares: Vec<Arc<Kind>>,
}

impl KindBefore {
    /// The kind of a row of which the columns of its kind are next.
    pub(super) fn of(&mut self, columns: &mut Columns<'_, '_>, packer: &Packer) -> Outcome<Arc<Kind>> {
        if let Some(kind) = &self.kind
            && columns.skip_same(&self.values)?
        {
            if let Some(share) = self.shares.pop() {
                return Ok(share);
            }
            self.shares.extend(core::iter::repeat_n(kind, SHARES).map(Arc::clone));
            return Ok(Arc::clone(kind));
        }
        (self.kind, self.shares) = (None, Vec::new());
        let mut again = Columns { row: columns.row, next: columns.next };
        let kind = kind(columns, packer)?;
        self.values.clear();
        for _ in 0..COLUMNS {
            self.values.push(again.value()?);
        }
        self.kind = Some(Arc::clone(&kind));
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
