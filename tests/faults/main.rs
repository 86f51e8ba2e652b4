//! What does not pass yet, run by `scripts/test faults`: a fault at every step, and nginx with keep-alive connections.

#[path = "../lab/clients.rs"]
mod clients;
mod crashes;
#[path = "../lab/lab.rs"]
mod lab;
mod web;
