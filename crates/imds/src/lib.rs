//! The instance metadata service as a function: request, view of one instance, point in time in; response out.
