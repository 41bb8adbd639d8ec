// Package keys knows the clients: a key is a name, the SHA-256 digest of a secret, and what its bearer may do. It reads keys
// as the configuration and the file of keys write them, finds the key of a secret, and makes new secrets.
//
// It never keeps a secret, reads no request, counts nothing and opens no file. It stands on ratelimit, which knows how limits
// are written, and on router, whose patterns the allowed models share.
package keys
