//! What whoever runs the service sees and says: the log, the audit trail, tokens behind a proxy, the command
//! line.

mod audit;
mod client;
mod crowds;
mod ctl;
mod events;
mod prometheus;
mod proxies;
