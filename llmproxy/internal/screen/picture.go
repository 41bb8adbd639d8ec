package screen

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"github.com/charmbracelet/x/ansi"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

// A picture is a snapshot as it is drawn.
type picture struct {
	*overview.Snapshot
	width, height int // of the terminal, in cells; zero for text
	only          int // the section that has the whole screen, from 1; zero if all share it
	from          int // its first row that is shown
}

// A section is a table of the picture.
type section struct {
	title   string
	empty   string // instead of a table without rows
	columns []column
	rows    [][]cell
	warning string // what some of the rows say, which may not be shown; empty for nothing
}

// A column is a column of a table.
type column struct {
	title   string
	breadth breadth
	right   bool // its values are aligned to the right
	elastic bool // its values may be cut if the table is too wide
}

// A cell is a value in a table.
type cell struct {
	text  string
	style lipgloss.Style
}

// A breadth is how wide a terminal has to be for a column.
type breadth int

const (
	always breadth = 0
	normal breadth = 60
	wide   breadth = 110
)

var (
	faint  = lipgloss.NewStyle().Faint(true)
	bold   = lipgloss.NewStyle().Bold(true)
	good   = lipgloss.NewStyle().Foreground(lipgloss.Green)
	middle = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	bad    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	usual  = lipgloss.NewStyle()
)

// has reports whether the picture is wide enough for something.
func (p *picture) has(b breadth) bool { return p.width == 0 || p.width >= int(b) }

const (
	// frame is the number of lines of a section besides its rows: its title, and those of the columns.
	frame = 2
	// shortest is the fewest cells that a column is cut to, gap the number of those between columns.
	shortest = 8
	gap      = 2
)

// textRequests is how many requests a text shows.
const textRequests = 20

// text returns the picture without a terminal: everything, but only the last requests.
func (p *picture) text() string {
	lines := p.summary()
	for i, s := range p.sections() {
		if i == requestsSection {
			s.rows = s.rows[:min(len(s.rows), textRequests)]
		}
		lines = append(append(lines, ""), p.draw(s, 0, len(s.rows))...)
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(ansi.Strip(line), " ")
	}
	return strings.Join(lines, "\n")
}

// screen returns the picture for the terminal. The error is why the snapshot is old.
func (p *picture) screen(problem error) string {
	head := []string{p.headline(problem)}
	room := p.height - len(head) - 1 // and the keys
	if summary := p.summary(); room > len(summary)+frame {
		head = append(append(head, summary...), "")
		room -= len(summary) + 1
	}
	sections := p.sections()
	if p.only > 0 {
		s := sections[p.only-1]
		shown := max(1, room-frame)
		p.from = max(0, min(p.from, len(s.rows)-shown))
		return p.fit(append(head, p.draw(s, p.from, shown)...))
	}
	p.from = 0
	spaced := needed(sections)+len(sections)-1 <= room
	for i, rows := range share(room, sections) {
		if rows == 0 {
			continue
		}
		if spaced && i > 0 {
			head = append(head, "")
		}
		head = append(head, p.draw(sections[i], 0, rows)...)
	}
	return p.fit(head)
}

// needed returns the lines that all rows of all sections need.
func needed(sections []section) (lines int) {
	for _, s := range sections {
		lines += frame + len(s.rows)
	}
	return lines
}

// press changes the picture as a key says.
func (p *picture) press(key string) {
	page := max(1, p.height-8)
	switch key {
	case "tab":
		p.only, p.from = (p.only+1)%(len(sectionNames)+1), 0
	case "shift+tab":
		p.only, p.from = (p.only+len(sectionNames))%(len(sectionNames)+1), 0
	case "up", "k":
		p.from = max(0, p.from-1)
	case "down", "j":
		p.from++
	case "pgup":
		p.from = max(0, p.from-page)
	case "pgdown", "space":
		p.from += page
	case "home", "g":
		p.from = 0
	case "end", "G":
		p.from = 1 << 20 // screen bounds it
	}
}

// fit returns lines that fill the screen, with the keys as the last one if there is room for it.
func (p *picture) fit(lines []string) string {
	keys := "q quit · tab one section"
	if p.only > 0 {
		keys = "q quit · tab next section · ↑ ↓ scroll"
	}
	all := make([]string, max(p.height, 1))
	all[len(all)-1] = faint.Render(keys)
	copy(all[:max(len(all)-1, 1)], lines)
	lines = all
	for i, line := range lines {
		lines[i] = ansi.Truncate(line, p.width, "…")
	}
	return strings.Join(lines, "\n")
}

// share shares the lines of the screen between the sections. It returns how many rows each gets, and zero for one without any room. They
// get room by their importance, and then a row more in turn, until they have all of their own.
func share(lines int, sections []section) []int {
	rows := make([]int, len(sections))
	for _, i := range turns {
		if rows[i] == 0 && lines > frame {
			rows[i] = 1
			lines -= frame + 1
		}
	}
	for given := true; given && lines > 0; {
		given = false
		for _, i := range turns {
			if rows[i] > 0 && rows[i] < len(sections[i].rows) && lines > 0 {
				rows[i]++
				lines--
				given = true
			}
		}
	}
	return rows
}

// draw returns the lines of a section with some of its rows.
func (p *picture) draw(s section, from, n int) []string {
	title := bold.Render(s.title)
	if len(s.rows) == 0 {
		return []string{title, faint.Render(s.empty)}
	}
	if hidden := len(s.rows) - n; hidden > 0 {
		title += faint.Render(fmt.Sprintf(" · %d–%d of %d", from+1, min(from+n, len(s.rows)), len(s.rows)))
	}
	if s.warning != "" {
		title += faint.Render(" · ") + bad.Render(s.warning)
	}
	visible := s.rows[from:min(from+n, len(s.rows))]
	shown, widths := p.columns(s.columns, visible)
	t := table.New().Wrap(false).Border(lipgloss.HiddenBorder()).BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderHeader(false).BorderColumn(false)
	var titles []string
	for c, i := range shown {
		titles = append(titles, ansi.Truncate(s.columns[i].title, widths[c], "…"))
	}
	t.Headers(titles...)
	for _, row := range visible {
		var texts []string
		for c, i := range shown {
			texts = append(texts, ansi.Truncate(row[i].text, widths[c], "…"))
		}
		t.Row(texts...)
	}
	t.StyleFunc(func(row, col int) lipgloss.Style {
		style := faint
		if row >= 0 {
			style = visible[row][shown[col]].style
		}
		if s.columns[shown[col]].right {
			style = style.AlignHorizontal(lipgloss.Right)
		}
		if col < len(shown)-1 {
			style = style.PaddingRight(gap)
		}
		return style
	})
	return append([]string{title}, strings.Split(strings.TrimRight(t.Render(), "\n"), "\n")...)
}

// columns returns which columns there is room for, and how wide they are.
func (p *picture) columns(all []column, rows [][]cell) (shown, widths []int) {
	total := -gap
	for i, c := range all {
		if !p.has(c.breadth) {
			continue
		}
		width := ansi.StringWidth(c.title)
		for _, row := range rows {
			width = max(width, ansi.StringWidth(row[i].text))
		}
		shown, widths = append(shown, i), append(widths, width)
		total += width + gap
	}
	for ; p.width > 0 && total > p.width; total-- {
		widest := -1
		for c, i := range shown {
			if all[i].elastic && widths[c] > shortest && (widest < 0 || widths[c] > widths[widest]) {
				widest = c
			}
		}
		if widest < 0 {
			break // fit cuts the lines
		}
		widths[widest]--
	}
	return shown, widths
}

// headline returns the first line: what this is, and when, or why it is not the latest.
func (p *picture) headline(problem error) string {
	line := bold.Render("llm_proxy")
	if problem != nil {
		return line + " " + bad.Render("as of "+p.At.Local().Format(time.TimeOnly)+": "+Printable(problem.Error()))
	}
	return line + " " + faint.Render(p.At.Local().Format(time.TimeOnly))
}

// summary returns the lines about all requests.
func (p *picture) summary() []string {
	t, c := p.Traffic, p.Cache
	traffic := fmt.Sprintf("%s requests/s · ", number(t.RequestsPerSecond))
	if t.Failed > 0 {
		traffic += bad.Render(fmt.Sprintf("%d of %d failed", t.Failed, t.Requests)) + " · "
	}
	traffic += number(t.TokensPerSecond) + " tokens/s"
	if t.TTFTMedian != nil && t.TTFT95 != nil {
		traffic += fmt.Sprintf(" · TTFT %s, p95 %s", seconds(*t.TTFTMedian), seconds(*t.TTFT95))
	}
	var usd float64
	for _, s := range p.Spend {
		usd += s.USD
	}
	money := dollars(usd) + " today"
	if p.SpendError != "" {
		money = bad.Render("no spend: " + Printable(p.SpendError))
	}
	if asked := c.Hits + c.Coalesced + c.Misses; asked > 0 {
		money += fmt.Sprintf(" · cache hits %d %% of %s, %s tokens saved", 100*(c.Hits+c.Coalesced)/asked, number(float64(asked)), number(float64(c.SavedTokens)))
	}
	return []string{traffic, money}
}
