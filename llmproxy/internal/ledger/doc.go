// Package ledger keeps what was used, by day, key, model and target, and small values that must outlive the process: keys
// and budgets.
//
// It decides when the file is written: batches are gathered in memory and committed within half a second, so that no
// request waits for a disk and a crash or a power cut loses less than a second of usage; what SaveNow was given is on the
// disk when it returns. It bounds what it keeps: rows of a day, days, lengths of names. It never decides who may use how
// much, and knows neither prices nor requests. It stands beside relay and upstream and imports none of our packages.
package ledger
