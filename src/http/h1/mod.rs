//! HTTP/1.0 and HTTP/1.1 on the wire: `request` reads heads, `response` writes them, `chunked` reads and writes bodies.

mod chunked;
mod request;
mod response;

pub use chunked::{ChunkedDecoder, Decoded, LAST_CHUNK, chunk_start};
pub use request::{Limits, Parse, RequestReader};
pub use response::{Additions, CONTINUE, ResponseFraming};
