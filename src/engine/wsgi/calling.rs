//! What the request is called that a Python thread is answering: what the thread writes to the log meanwhile is told with it.

use std::cell::RefCell;

thread_local! {
    /// Empty between calls, and where requests have no ids.
    static ID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The call of a request that has an id, until it is dropped.
pub struct Call;

impl Call {
    #[cold]
    pub fn begin(id: &str) -> Call {
        ID.with_borrow_mut(|place| {
            place.clear();
            place.push_str(id);
        });
        Call
    }
}

impl Drop for Call {
    #[cold]
    fn drop(&mut self) {
        ID.with_borrow_mut(String::clear);
    }
}

/// The id of the request that this thread is answering, if it is, and if requests have ids.
pub fn id() -> Option<String> {
    ID.with_borrow(|id| (!id.is_empty()).then(|| id.clone()))
}
