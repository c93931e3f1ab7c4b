//! The regions of a deployment: one process serves them all, each with a store, epochs and mirrors of its own.
//!
//! One is the *home*: accounts, operators and roles are in its store, and the others share its tables in memory, so that an
//! operator who is disabled is out everywhere at once. Everything else is a region's own, and no region trusts another's word
//! about a machine: a request goes to the region that can tell ([`route`]).

mod route;

use core::cell::Cell;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use inborn_identity::Region;
use inborn_store::{SettingChange, Store, StoreError};

use crate::fleet::Fleet;
use crate::{OpenError, RegionIdentity, RegionServer};

pub(crate) use route::{Asked, Route};

/// Most regions of a deployment: AWS has about as many in a partition, and each takes a store and mirrors of it.
pub const REGIONS_MAX: usize = 32;

/// In the store of a region that is not its deployment's home: the home's name.
const SETTING_HOME: &str = "home-region";

/// Why a region cannot be one of a deployment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeploymentError {
    /// Another account, partition or domain.
    #[error(
        "region {0} cannot be in one deployment with {1}: the regions of a deployment have one account, one partition and one \
         domain"
    )]
    Unlike(Region, Region),
    /// One name twice.
    #[error("region {0} is named twice")]
    Twice(Region),
    /// There are too many.
    #[error("a deployment has at most {REGIONS_MAX} regions")]
    TooMany,
    /// Its store was never the home of a deployment.
    #[error(
        "the store of region {region} belongs to the deployment whose home is {home}: start that one (--region {home} \
         --more-regions {region}), or use another store"
    )]
    NotHome {
        /// Whose store it is.
        region: Region,
        /// Its deployment's home.
        home: String,
    },
    /// Its store has operators of its own.
    #[error(
        "the store of region {0} is that of a deployment of its own, with operators: it cannot become part of another one. \
         Leave it out, or name a new store"
    )]
    HasOperators(Region),
}

/// A region among the others.
#[derive(Clone)]
pub(crate) struct Sibling {
    name: Region,
    server: Weak<RegionServer>,
}

impl Sibling {
    /// The region's name.
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }
}

/// Where a region finds the others of its deployment.
#[derive(Default)]
pub(crate) struct Deployment {
    /// `None`: this is the home.
    home: Option<Arc<RegionServer>>,
    /// All of them, the home first; one list for all.
    siblings: Arc<ArcSwap<Vec<Sibling>>>,
}

impl Deployment {
    /// As a region sees it that is opened beside its home.
    pub(crate) fn beside(home: &Arc<RegionServer>) -> Self {
        Self { home: Some(Arc::clone(home)), siblings: Arc::clone(&home.deployment.siblings) }
    }

    /// From now on the others know of `region`.
    pub(crate) fn add(&self, region: &Arc<RegionServer>) {
        let sibling = Sibling { name: region.identity.region.clone(), server: Arc::downgrade(region) };
        self.siblings.rcu(|known| {
            let mut all = Vec::clone(known);
            all.push(sibling.clone());
            all
        });
    }
}

impl RegionServer {
    /// The region that has the accounts, operators and roles.
    #[must_use]
    pub fn home(&self) -> &Self {
        self.deployment.home.as_deref().unwrap_or(self)
    }

    /// Whether this is it.
    pub(crate) const fn is_home(&self) -> bool {
        self.deployment.home.is_none()
    }

    /// What is known of the regions of the deployment, the home first.
    pub(crate) fn siblings(&self) -> Arc<Vec<Sibling>> {
        self.deployment.siblings.load_full()
    }

    /// The regions of the deployment, the home first.
    #[must_use]
    pub fn regions(&self) -> Vec<Arc<Self>> {
        self.deployment.siblings.load().iter().filter_map(|sibling| sibling.server.upgrade()).collect()
    }

    /// The names of the regions, the home's first.
    #[must_use]
    pub fn region_names(&self) -> Vec<Region> {
        self.deployment.siblings.load().iter().map(|sibling| sibling.name.clone()).collect()
    }

    /// Whether a region of this name is one of the deployment.
    pub(crate) fn knows_region(&self, name: &str) -> bool {
        self.deployment.siblings.load().iter().any(|sibling| sibling.name.as_str() == name)
    }

    /// Whether a region may be opened beside this one.
    pub(crate) fn check_may_join(&self, other: &RegionIdentity) -> Result<(), DeploymentError> {
        let own = &self.identity;
        let is_like = own.account == other.account && own.partition == other.partition && own.domain == other.domain;
        if !is_like {
            return Err(DeploymentError::Unlike(other.region.clone(), own.region.clone()));
        }
        let names = self.region_names();
        if names.contains(&other.region) {
            return Err(DeploymentError::Twice(other.region.clone()));
        }
        if names.len() >= REGIONS_MAX {
            return Err(DeploymentError::TooMany);
        }
        Ok(())
    }

    /// Which region a request is for, and which scopes it may have there.
    pub(crate) fn route(self: &Arc<Self>, asked: &Asked<'_>) -> Route {
        let siblings = self.deployment.siblings.load();
        if siblings.len() <= 1 {
            return Route::to(self);
        }
        let is_claimed = Cell::new(false);
        let names: Vec<&str> = siblings.iter().map(|sibling| sibling.name.as_str()).collect();
        let server = |index: usize| siblings.get(index).and_then(|sibling| sibling.server.upgrade());
        let has_issued = |index: usize, key: &str, token: &[u8]| {
            let has_issued = server(index).is_some_and(|region| region.authenticator.has_issued(key, token));
            is_claimed.set(is_claimed.get() || has_issued);
            has_issued
        };
        let has_session =
            |index: usize, id: &str| server(index).is_some_and(|region| region.sessions.get(id).is_some());
        let host_region = asked.host_region(&names);
        let index = asked.region(&names, host_region, has_issued, has_session);
        let region = index.and_then(server).unwrap_or_else(|| Arc::clone(self));
        let host_region = host_region.and_then(|index| siblings.get(index)).map(|sibling| sibling.name.clone());
        let is_unclaimed = asked.session_at_sts().is_some() && !is_claimed.get();
        Route { region, host_region, is_unclaimed, has_waited: false }
    }

    /// As [`RegionServer::route`], where need be once what there is to hear is heard: a token that no region has issued may be of an epoch
    /// that another server of one has made a moment ago. `None`: a region does not hear, or too many wait already, so that nobody can tell whose
    /// it is. What is refused whoever sent it (`is_fit`) waits for nothing.
    pub(crate) async fn route_when_heard(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        is_fit: impl Fn(&Route) -> bool,
    ) -> Option<Route> {
        let route = self.route(asked);
        let Some((_, token)) = asked.session_at_sts().filter(|_| route.is_unclaimed) else { return Some(route) };
        let regions = self.regions();
        let ahead = regions.iter().filter(|region| region.authenticator.keyring().is_ahead(token));
        let hearing: Vec<_> = ahead.filter_map(|region| region.fleet()).map(Fleet::catch_up).collect();
        if hearing.is_empty() || !is_fit(&route) {
            return Some(route);
        }
        let _place = self.bounds.place_to_wait()?;
        let all_heard = join_all(hearing).await.into_iter().all(|has_heard| has_heard);
        let route = Route { has_waited: all_heard, ..self.route(asked) };
        (all_heard || !route.is_unclaimed).then_some(route)
    }
}

/// A store belongs to one deployment for ever: it is the home's, or says whose it is.
pub(crate) async fn check_home(
    store: &dyn Store,
    identity: &RegionIdentity,
    home: Option<&Region>,
) -> Result<(), OpenError> {
    let found = store.setting(SETTING_HOME).await?;
    let region = identity.region.clone();
    let (Some(home), None) = (home, &found) else {
        let is_right = found.as_deref() == home.map(|home| home.as_str().as_bytes());
        let shown = || String::from_utf8_lossy(found.as_deref().unwrap_or_default()).into_owned();
        return if is_right { Ok(()) } else { Err(DeploymentError::NotHome { region, home: shown() }.into()) };
    };
    if !store.operators().await?.is_empty() {
        return Err(DeploymentError::HasOperators(region).into());
    }
    let value = home.as_str().as_bytes().to_vec();
    let change = SettingChange { name: SETTING_HOME.to_owned(), expected: None, value: value.clone() };
    match store.put_setting(change).await {
        // Another server has just done it.
        Err(StoreError::Conflict(_)) if store.setting(SETTING_HOME).await? == Some(value) => Ok(()),
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests;
