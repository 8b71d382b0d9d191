//! What the fuzz targets check. Each function takes any bytes and panics if its invariant does not hold.

mod decode;
mod definition;
mod draw;
mod pixel_values;
mod preprocess;
mod prune;

pub use decode::decode;
pub use draw::Noise;
pub use pixel_values::pixel_values;
pub use preprocess::preprocess;
pub use prune::prune;

use pixelprune::{Pool, Threads};
use std::sync::OnceLock;

/// The caller's thread alone, and two threads.
fn threads() -> [Threads<'static>; 2] {
    static POOL: OnceLock<Option<Pool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| Pool::new(2)).as_ref();
    [Threads::ONE, pool.expect("two threads can be started").threads()]
}
