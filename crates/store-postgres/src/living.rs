//! All instances at once, for a mirror in memory.

use std::sync::Arc;

use inborn_store::{InstanceQuery, InstanceState, Living, Packer, StoreError};
use tokio::sync::mpsc;

use crate::instances;
use crate::store::PostgresStore;
use crate::transaction::Access;

/// As many are asked for at a time: three statements each, whatever lies between here and the database.
const TOGETHER: u32 = 4096;

const _: () = assert!(TOGETHER <= Living::PART_MAX);

impl PostgresStore {
    /// See [`inborn_store::Store::living`].
    pub(crate) async fn send_living(&self, packer: Arc<Packer>, parts: mpsc::Sender<Living>) -> Result<(), StoreError> {
        let mut query = InstanceQuery { account: None, after: None, limit: TOGETHER };
        loop {
            let page =
                self.run(Access::Read, query, |session, query| Box::pin(instances::page(session, query))).await?;
            let living = page.instances.iter().filter(|instance| instance.state != InstanceState::Terminated);
            let living: Vec<_> = living.map(|instance| packer.pack(instance)).collect();
            if !living.is_empty() && parts.send(Living::Instances(living)).await.is_err() {
                return Ok(());
            }
            match page.next {
                Some(after) => query.after = Some(after),
                None => return Ok(()),
            }
        }
    }
}
