//! The Python objects that one thread makes once and uses again in call after call, as long as the application keeps none of them.

use std::sync::Arc;

use ostler_serve::Request;
use ostler_wire::Boot;
use pyo3::{prelude::*, types::PyDict};

use super::{environ::Environ, input::Input, rules::Rules, start_response::Callables};
use crate::python::object::references;

/// One thread's objects.
pub struct Reusable {
    environ: Environ,
    pub callables: Callables,
    input: Py<Input>,
}

impl Reusable {
    /// `constant` holds the keys of the environ that no request changes.
    pub fn new(py: Python<'_>, constant: &Bound<'_, PyDict>, boot: &Boot, rules: Arc<Rules>) -> PyResult<Reusable> {
        let environ = Environ::new(py, constant, &boot.listeners, &boot.worker.root_path)?;
        let callables = Callables::new(py, rules)?;
        let input = Py::new(py, Input::new(Default::default()))?;
        let reusable = Reusable { environ, callables, input };
        reusable.put_into_environ(py)?;
        Ok(reusable)
    }

    /// Makes the environ of a request. An object that the application still holds from an earlier request is replaced by a new one.
    pub fn prepare<'py>(
        &mut self,
        py: Python<'py>,
        request: &mut Request<'_>,
        rules: &Arc<Rules>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let body = std::mem::take(&mut request.body);
        let length = body.length();
        let free = self.callables.ours_alone(py);
        let drained = self.input_is_free(py);
        if !free {
            self.callables.leave(py)?;
            self.callables = Callables::new(py, rules.clone())?;
        }
        if drained {
            self.input.bind(py).borrow_mut().refill(body);
        } else {
            self.input = Py::new(py, Input::new(body))?;
        }
        if !free || !drained {
            self.put_into_environ(py)?;
        }
        self.environ.build(py, request, length)
    }

    /// Lets go of the body when the call is over, unless the application has kept the input.
    pub fn put_away(&self, py: Python<'_>) {
        let kept = !self.input_is_free(py);
        // While another thread of the application is reading, the body stays with it.
        if let Ok(mut input) = self.input.bind(py).try_borrow_mut() {
            input.put_away(kept);
        }
    }

    fn input_is_free(&self, py: Python<'_>) -> bool {
        // The pattern environ holds one reference too.
        references(self.input.bind(py)) == 2
    }

    fn put_into_environ(&self, py: Python<'_>) -> PyResult<()> {
        self.environ.set(py, "wsgi.input", self.input.bind(py))?;
        self.environ.set(py, "wsgi.early_hints", self.callables.early_hints.bind(py))?;
        self.environ.set(py, "ostler.client_disconnected", self.callables.client_disconnected.bind(py))
    }
}
