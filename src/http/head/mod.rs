//! The heads of requests and responses as values, whatever protocol brings or takes them.

pub mod request;
pub mod response;
