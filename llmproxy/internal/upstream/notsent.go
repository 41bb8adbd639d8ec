package upstream

// A NotSentError says that a request never reached its server: the connection could not be made. Nothing was generated,
// so that trying elsewhere costs nothing. Transports of every origin say it with this type.
type NotSentError struct{ Err error }

// Error gives the cause in its own words.
func (e *NotSentError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *NotSentError) Unwrap() error { return e.Err }
