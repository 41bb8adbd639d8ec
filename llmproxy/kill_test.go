package llmproxy

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
)

// Fifty Caddys are killed while keys are changed at the command line and requests are served: no key is lost, the ledger is never
// corrupt, and at most a second of what was used is lost.
func TestKilledWhileKeeping(t *testing.T) {
	for name, kept := range map[string]string{"in the ledger": "require_key", "in a file": "keys_file FOLDER/keys.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoomed(t, kept)
			d.start()
			for i := range 25 {
				life := rand.N(250 * time.Millisecond)
				if i%5 == 4 { // long enough for requests that must not be lost
					life = 1200*time.Millisecond + rand.N(600*time.Millisecond)
				}
				d.live(life)
				d.examine()
			}
			for name, secret := range d.secrets {
				if !d.asked(d.url+"/v1/models", secret, nil) {
					t.Errorf("the key %s is not good any more", name)
				}
			}
			for name, secret := range d.revoked {
				if d.asked(d.url+"/v1/models", secret, nil) {
					t.Errorf("the key %s was revoked and is good", name)
				}
			}
			if err := d.cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			<-d.ended
			t.Logf("%d requests, %d of the budget and all of %d keys survived, and %d stayed revoked; the slowest change took %s", d.before, d.spent, len(d.secrets), len(d.revoked), d.slowest)
			if d.before == 0 || len(d.secrets) == 0 || len(d.revoked) == 0 {
				t.Error("no Caddy lived long enough to show anything")
			}
		})
	}
}

// examine looks at what was left behind: the file as it lies there, then what another process makes of it.
func (d *doomed) examine() {
	d.Helper()
	db, err := bbolt.Open(filepath.Join(d.folder, "caddy", "llm_proxy", "ledger.db"), 0o600, &bbolt.Options{ReadOnly: true})
	if errors.Is(err, os.ErrNotExist) {
		d.Log("it was killed before it wrote anything")
	} else if err != nil {
		d.Fatal(err)
	} else {
		err := db.View(func(tx *bbolt.Tx) error {
			for err := range tx.Check() {
				d.Errorf("the ledger is corrupt: %v", err)
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			d.Error(err)
		}
	}
	d.start()
	d.examineKeys()
	// What is a second old is there; or, where the disk takes longer than half a second for a change, that much older.
	allowed, safe := max(time.Second, 500*time.Millisecond+2*d.slowest), int64(0)
	for _, at := range d.served {
		if d.killed.Sub(at) > allowed {
			safe++
		}
	}
	used := d.used()
	if most := d.before + int64(len(d.served)) + 1; used < d.before+safe || used > most {
		d.Errorf("the ledger has %d requests, of which %d are of before; %d of %d new ones were a second old", used, d.before, safe, len(d.served))
	}
	spent := d.budget()
	if most := d.spent + int64(len(d.served)) + reserved; spent < d.spent+safe || spent > most {
		d.Errorf("%d of the budget is spent, of which %d before; %d of %d new uses were a second old", spent, d.spent, safe, len(d.served))
	}
	d.before, d.spent = used, spent
}

func (d *doomed) examineKeys() {
	d.Helper()
	var list []admin.Key
	if !d.asked("http://"+d.admin+"/llm_proxy/keys", "", &list) {
		d.Fatal("the keys cannot be asked for")
	}
	there := map[string]bool{}
	for _, k := range list {
		there[k.Name] = true
		if _, gone := d.revoked[k.Name]; gone {
			d.Errorf("the key %s was revoked and is there", k.Name)
		}
	}
	for name := range d.secrets {
		if !there[name] && d.unsaid != "revoke "+name {
			d.Errorf("the key %s is lost", name)
		}
	}
	_, name, _ := strings.Cut(d.unsaid, " ")
	delete(d.secrets, name) // it is there or not, with the old secret or the new one
}

// used is how many requests the ledger has.
func (d *doomed) used() int64 {
	d.Helper()
	var answer admin.Usage
	if !d.asked("http://"+d.admin+"/llm_proxy/usage", "", &answer) {
		d.Fatal("the usage cannot be asked for")
	}
	for _, row := range answer.Rows {
		if row.Key == "user" {
			return row.Requests
		}
	}
	return 0
}

// budget is how much of the budget is spent.
func (d *doomed) budget() int64 {
	d.Helper()
	var answer struct {
		Limits []struct{ Limit, Left float64 }
	}
	if !d.asked(d.url+"/llm/usage", "sk-user", &answer) || len(answer.Limits) != 1 {
		d.Fatalf("the budget cannot be asked for: %+v", answer)
	}
	return int64(answer.Limits[0].Limit - answer.Limits[0].Left)
}
