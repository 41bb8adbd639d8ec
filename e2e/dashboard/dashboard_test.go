package dashboard

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// unauthorized is what the console says of a page on which nobody has signed in yet.
const unauthorized = "401"

// The playground shows an answer while it arrives, and which target gave it and why.
func TestPlaygroundStreams(t *testing.T) {
	w := newWorld(t)
	p := w.open(t, unauthorized).signIn(alice)
	p.show("playground")
	p.until(`document.querySelectorAll("#model option").length === 2`)
	p.do(chromedp.SetValue(chromedp.CSS("#model"), "gpt-4o"))
	w.gpu.pause()
	p.click("#send")
	p.until(`document.querySelector("#answer").textContent === "The sky is "`)
	w.gpu.resume()
	p.until(`!document.querySelector("#answer").classList.contains("streaming")`)
	if got := p.text("#answer"); got != words {
		t.Errorf("the answer is %q", got)
	}
	facts := p.text("#answered")
	for _, want := range []string{"gpu/llama3.2", "fallback:unreachable, so the next choice was asked", "First token", "28 out"} {
		if !strings.Contains(facts, want) {
			t.Errorf("%q is not among the facts: %s", want, facts)
		}
	}
	w.gpu.pause()
	p.write("#prompt", " Again.")
	p.click("#send")
	p.until(`document.querySelector("#answer").textContent === "The sky is "`)
	p.click("#stop")
	p.until(`document.querySelector("#answer").textContent.endsWith("Stopped.")`)
}

// A slot fills when a request begins and empties when it ends; what finds no slot waits.
func TestSlotsFillAndEmpty(t *testing.T) {
	w := newWorld(t)
	p := w.open(t, unauthorized).signIn(ops)
	p.until(`document.querySelectorAll(".slot.free").length === 3`)
	w.gpu.pause()
	w.later(t, alice, "llama3.2", "one")
	p.until(`document.querySelectorAll(".slot.used").length === 1`)
	if got := p.text(".slot.used"); !strings.Contains(got, "llama3.2") || !strings.Contains(got, "alice") {
		t.Errorf("the slot says %q", got)
	}
	for i := range 3 {
		w.later(t, bob, "llama3.2", fmt.Sprint("more ", i))
	}
	p.until(`document.querySelectorAll(".slot.used").length === 3 && document.querySelectorAll(".waiting li").length === 1`)
	if got := p.text(".waiting"); !strings.Contains(got, "bob · llama3.2") {
		t.Errorf("the queue says %q", got)
	}
	if got := eval[string](p, `document.querySelector("ul.slots").getAttribute("aria-label")`); got != "Slots of gpu: 3 of 3 in use" {
		t.Errorf("the slots are called %q", got)
	}
	w.gpu.resume()
	w.busy.Wait()
	p.until(`document.querySelectorAll(".slot.free").length === 3 && document.querySelectorAll(".waiting li").length === 0`)
	p.until(`document.querySelectorAll("#spend tbody tr").length === 2 && document.querySelector("#tile-requests").textContent === "4"`)
}

// A request that went to a second target shows both attempts. The details open with the keyboard.
func TestFailoverShowsBothAttempts(t *testing.T) {
	w := newWorld(t)
	p := w.open(t, unauthorized).signIn(ops)
	w.mustAsk(t, alice, "gpt-4o", "hi")
	p.show("requests")
	p.until(`document.querySelectorAll(".request .tries i").length === 2`)
	p.do(chromedp.Focus(chromedp.CSS(".request summary")), chromedp.KeyEvent("\r"))
	p.until(`document.querySelectorAll(".detail li").length === 2`)
	first, second := p.text(".detail li:first-child"), p.text(".detail li:last-child")
	if !strings.Contains(first, "openai/gpt-4o") || !strings.Contains(first, "unreachable") || !strings.Contains(second, "gpu/llama3.2") || !strings.Contains(second, "200 answered") {
		t.Errorf("%s\n%s", first, second)
	}
	p.click("#only-failed")
	p.until(`document.querySelectorAll(".request").length === 1`)
	p.write("#filter", "no such model")
	p.until(`document.querySelector("#request-list").innerText === "No request matches."`)
}

// The owner of a key sees what is its own, and nothing of others.
func TestAKeySeesOnlyItself(t *testing.T) {
	w := newWorld(t)
	w.mustAsk(t, alice, "llama3.2", "one")
	w.mustAsk(t, bob, "llama3.2", "two")
	w.gpu.pause()
	w.later(t, bob, "llama3.2", "three")
	p := w.open(t, unauthorized).signIn(alice)
	p.until(`document.querySelectorAll("#spend tbody tr").length === 1 && document.querySelectorAll(".slot.used").length === 1`)
	p.until(`document.querySelector("#quota").innerText.includes("$5/month")`)
	for _, part := range []string{"overview", "requests", "playground"} {
		p.show(part)
		if part == "requests" {
			p.until(`document.querySelectorAll(".request").length === 1`)
		}
		// Hidden elements count, too.
		for _, secret := range []string{"bob", strings.TrimPrefix(w.gpu.URL, "http://"), ops} {
			if text := eval[string](p, `document.documentElement.outerHTML`); strings.Contains(text, secret) {
				t.Errorf("%s: alice sees %q", part, secret)
			}
		}
	}
	if !eval[bool](p, `document.querySelector("#keys-link").hidden`) {
		t.Error("alice sees the link to the keys")
	}
	p.until(`(location.hash = "keys", !document.querySelector("#overview").hidden)`)
	w.gpu.resume()
	w.busy.Wait()
}

// A wrong key shows nothing, and says so.
func TestAWrongKeySeesNothing(t *testing.T) {
	w := newWorld(t)
	w.mustAsk(t, alice, "llama3.2", "one")
	p := w.open(t, unauthorized)
	p.write("#secret", "wrong\r") // with the keyboard
	p.until(`document.querySelector("#sign-in-error").textContent.includes("not valid")`)
	for _, part := range []string{"overview", "requests", "playground", "keys"} {
		if !eval[bool](p, fmt.Sprintf(`(location.hash = %q, document.getElementById(%q).hidden)`, part, part)) {
			t.Errorf("%s is visible", part)
		}
	}
	if text := eval[string](p, `document.documentElement.outerHTML`); strings.Contains(text, "alice") || strings.Contains(text, "gpu") {
		t.Errorf("the page has %s", text)
	}
	p.signIn(alice)
	p.click("#sign-out")
	p.until(`!document.querySelector("#sign-in").hidden && document.querySelectorAll(".request").length === 0`)
	if got := eval[string](p, `document.querySelector("#secret").value + JSON.stringify(sessionStorage) + JSON.stringify(localStorage) + document.cookie`); got != "{}{}" {
		t.Errorf("the browser keeps %s", got)
	}
}

// An admin creates a key, rotates it and revokes it. A page that was signed in with the key is signed out.
func TestAdminManagesKeys(t *testing.T) {
	w := newWorld(t)
	p := w.open(t, unauthorized).signIn(ops)
	p.show("keys")
	p.until(`document.querySelectorAll("#key-list tbody tr").length === 3`)
	p.write("#key-name", "carol")
	p.write("#key-rate", "600/m")
	p.click("#create button")
	p.until(`document.querySelectorAll("#key-list tbody tr").length === 4`)
	first := p.text("#new-secret code")
	w.mustAsk(t, first, "llama3.2", "hi")
	p.click(`button[aria-label="Rotate carol"]`)
	p.click("#confirm-yes")
	p.until(`document.querySelector("#new-secret code").innerText !== ` + fmt.Sprintf("%q", first))
	second := p.text("#new-secret code")
	if status, err := w.ask(first, "llama3.2", "hi", false); status != http.StatusUnauthorized {
		t.Errorf("the old secret: %d %v", status, err)
	}
	carol := w.open(t, unauthorized).signIn(second)
	p.click(`button[aria-label="Revoke carol"]`)
	p.click("#confirm-yes")
	p.until(`document.querySelectorAll("#key-list tbody tr").length === 3`)
	carol.until(`!document.querySelector("#sign-in").hidden && document.querySelector("#sign-in-error").textContent.includes("signed out")`)
}

// When Caddy ends, the page says so, and when it is there again, so is the page, without another sign-in.
func TestThePageComesBack(t *testing.T) {
	w := newWorld(t)
	p := w.open(t, unauthorized, "ERR_").signIn(ops)
	for i := range 3 {
		w.mustAsk(t, alice, "llama3.2", fmt.Sprint("before ", i))
	}
	p.show("requests")
	p.until(`document.querySelectorAll(".request").length === 3`)
	w.stop()
	p.until(`document.querySelector("#live").textContent === "connecting …"`)
	w.run()
	p.until(`document.querySelector("#live").textContent === "live"`)
	w.mustAsk(t, alice, "llama3.2", "hi")
	p.until(`document.querySelectorAll(".request").length === 1`)
}

// Ten thousand requests do not make the page grow.
func TestThePageDoesNotGrow(t *testing.T) {
	w := newWorld(t)
	p := w.open(t, unauthorized).signIn(ops)
	p.show("requests")
	total := 0
	ask := func(n int) {
		var workers sync.WaitGroup
		for range 16 {
			workers.Go(func() {
				for range n / 16 {
					if status, err := w.ask(ops, "llama3.2", "the same", false); status != http.StatusOK {
						t.Error(status, err)
						return
					}
				}
			})
		}
		workers.Wait()
		total += n / 16 * 16
		p.until(fmt.Sprintf(`document.querySelectorAll(".request").length === 200 && llmDashboard.size().newest >= %d`, total))
	}
	measure := func() (nodes int, heap float64) {
		call(p, heapprofiler.CollectGarbage, cdp.Empty{})
		return eval[int](p, `document.querySelectorAll("*").length`), call(p, runtime.GetHeapUsage, cdp.Empty{}).UsedSize
	}
	ask(1600)
	nodes, heap := measure()
	ask(10_000)
	moreNodes, moreHeap := measure()
	t.Logf("%d elements and %.1f MB, after 10,000 more %d and %.1f MB", nodes, heap/1e6, moreNodes, moreHeap/1e6)
	if moreNodes > nodes+20 || moreHeap > heap+2e6 {
		t.Error("the page has grown")
	}
	if size := eval[map[string]int](p, `llmDashboard.size()`); size["requests"] != 200 || size["points"] > 1200 {
		t.Errorf("the page keeps %v", size)
	}
}

// axe finds no fault on any part of the page, in light and dark, on a screen and on a phone.
func TestAccessibility(t *testing.T) {
	w := newWorld(t)
	w.mustAsk(t, alice, "gpt-4o", "hi")
	p := w.open(t, unauthorized)
	p.accessible("sign-in")
	p.signIn(ops)
	w.gpu.pause()
	for i := range 4 {
		w.later(t, alice, "llama3.2", fmt.Sprint("question ", i))
	}
	p.until(`document.querySelectorAll(".slot.used").length === 3 && document.querySelectorAll(".waiting li").length === 1`)
	p.until(`document.querySelectorAll("#spend tbody tr").length === 1`)
	for _, theme := range []string{"light", "dark"} {
		p.theme(theme)
		for _, width := range []int64{1280, 390} {
			p.do(chromedp.EmulateViewport(width, 844))
			for _, part := range []string{"overview", "requests", "playground", "keys"} {
				p.show(part)
				if part == "requests" {
					p.until(`document.querySelector(".request") && (document.querySelector(".request").open = true)`)
				}
				p.accessible(fmt.Sprintf("%s, %s, %d pixels", part, theme, width))
				if wide := eval[int](p, `document.documentElement.scrollWidth`); wide > int(width) {
					t.Errorf("%s at %d pixels is %d wide", part, width, wide)
				}
			}
		}
	}
	w.gpu.resume()
	w.busy.Wait()
}

// The page follows the theme of the system until somebody chooses one.
func TestTheme(t *testing.T) {
	w := newWorld(t)
	p := w.open(t, unauthorized).signIn(ops)
	const background = `getComputedStyle(document.body).backgroundColor`
	light := eval[string](p, background)
	p.theme("dark")
	if dark := eval[string](p, background); dark == light {
		t.Errorf("dark is %s, too", dark)
	}
	p.click("#theme")
	if got := eval[string](p, background); got != light {
		t.Errorf("after the choice, it is %s", got)
	}
}

// A violation of the page's policy fails a test: the console reports it.
func TestViolationsOfThePolicyAreSeen(t *testing.T) {
	w := newWorld(t)
	for name, violation := range map[string]string{
		"a script of another site": `document.head.append(Object.assign(document.createElement("script"), { src: "https://example.com/x.js" }))`,
		"a style in the page":      `document.body.setAttribute("style", "color: red")`,
		"a request to others":      `fetch("https://example.com/").catch(() => {})`,
	} {
		t.Run(name, func(t *testing.T) {
			p := w.open(t, "Content Security Policy", "ontent-Security", "TrustedScriptURL", unauthorized, "Refused")
			p.until(`!document.querySelector("#sign-in").hidden`)
			p.said.Store(false)
			p.do(chromedp.Evaluate[chromedp.Void](`try { ` + violation + ` } catch (err) { console.error("TrustedScriptURL", err.message) }`))
			w.wait(t, "the console to complain", p.said.Load)
		})
	}
}

// The page as a picture: in light, in dark, and on a phone. That of the overview is in the documentation, for which the page collects more.
func TestPictures(t *testing.T) {
	w := newWorld(t)
	p := w.open(t, unauthorized)
	p.until(`!document.querySelector("#sign-in").hidden`)
	p.picture("sign-in")
	p.signIn(ops)
	w.gpu.slow(25 * time.Millisecond)
	points := 20
	if *pictures != "" {
		points = 45
	}
	done := make(chan struct{})
	defer w.busy.Wait()
	defer close(done)
	for worker := range 5 {
		w.busy.Go(func() {
			for i := worker; ; i += 5 {
				select {
				case <-done:
					return
				default:
					prompt := fmt.Sprint("question ", i)
					if i%6 == 0 {
						prompt = "often" // the cache has the answer
					}
					w.mustAsk(t, []string{alice, bob, ops}[i%3], []string{"llama3.2", "llama3.2", "llama3.2", "gpt-4o"}[i%4], prompt)
				}
			}
		})
	}
	p.until(fmt.Sprintf(`llmDashboard.size().points > %d`, points) + ` && document.querySelectorAll("#spend tbody tr").length === 3`)
	for _, theme := range []string{"light", "dark"} {
		p.theme(theme)
		p.do(chromedp.EmulateViewport(1280, 900))
		for _, part := range []string{"requests", "playground", "keys", "overview"} {
			p.show(part)
			if part == "overview" {
				p.until(`document.querySelectorAll(".slot.used").length === 3 && document.querySelectorAll(".waiting li").length === 2`)
			}
			if part == "playground" {
				p.click("#send")
				p.until(`document.querySelector("#answered").innerText.includes("Total")`)
			}
			p.picture(part + "-" + theme)
		}
		p.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
		for _, part := range []string{"overview", "requests", "playground", "keys"} {
			p.show(part)
			p.picture(part + "-phone-" + theme)
		}
	}
}
