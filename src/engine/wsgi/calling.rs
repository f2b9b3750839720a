//! What the request is called that a Python thread is answering: what the thread writes to the log meanwhile is told with it.

use std::cell::RefCell;

thread_local! {
    /// Empty between calls, and where requests have no ids.
    static ID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does `work`, which is the call of the request of this id.
pub fn during<T>(id: Option<&str>, work: impl FnOnce() -> T) -> T {
    struct Until;
    impl Drop for Until {
        fn drop(&mut self) {
            ID.with_borrow_mut(String::clear);
        }
    }
    let Some(id) = id else { return work() };
    ID.with_borrow_mut(|place| {
        place.clear();
        place.push_str(id);
    });
    let _until = Until;
    work()
}

/// The id of the request that this thread is answering, if it is, and if requests have ids.
pub fn id() -> Option<String> {
    ID.with_borrow(|id| (!id.is_empty()).then(|| id.clone()))
}
