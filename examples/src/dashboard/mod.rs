//! A run's progress in a terminal dashboard, Burn's own, with the feature `dashboard`.

#[cfg(feature = "dashboard")]
mod burn;
#[cfg(not(feature = "dashboard"))]
mod without;

#[cfg(feature = "dashboard")]
pub use self::burn::Dashboard;
#[cfg(not(feature = "dashboard"))]
pub use without::Dashboard;
