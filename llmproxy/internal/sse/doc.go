// Package sse frames event streams (WHATWG HTML, §9.2): it decides where one event ends and the next begins, and takes one
// apart. It never changes an event's bytes, never looks into its data and never writes to a client. It stands on the
// lowest floor and imports no other package of this project.
package sse
