// Package draft writes Caddyfiles: lines, blocks and comments, formatted as `caddy fmt` formats them. It quotes what needs quotes, so that
// foreign text can neither end a line nor begin a block.
//
// It knows no directive and reads nothing. It stands on the lowest floor.
package draft

import (
	"strings"
	"unicode"
)

// A Block is the lines between two braces, or those of a whole file.
type Block struct{ lines []line }

// A line is a comment, an empty line, or words, possibly with a block.
type line struct {
	comment string
	words   []string
	block   *Block
}

// Comment adds comments. Each line of the text becomes one, and long lines are wrapped.
func (b *Block) Comment(text string) {
	for _, paragraph := range strings.Split(text, "\n") {
		b.wrap(paragraph)
	}
}

const commentWidth = 110

// wrap adds a paragraph as comments. The further lines of a list item are indented.
func (b *Block) wrap(paragraph string) {
	indent := ""
	if strings.HasPrefix(paragraph, "- ") {
		indent = "  "
	}
	text := ""
	for _, word := range strings.Fields(plain(paragraph)) {
		if text != "" && text != indent && len(text)+1+len(word) > commentWidth {
			b.lines = append(b.lines, line{comment: text})
			text = indent
		}
		if text != "" && text != indent {
			text += " "
		}
		text += word
	}
	b.lines = append(b.lines, line{comment: text})
}

// plain replaces what could end a comment or obey a terminal, and the opening of an environment variable, which Caddy replaces in comments,
// too.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, text)
	return strings.ReplaceAll(text, "{$", "{ $")
}

// CommentOut adds lines as comments, for a person who wants them.
func (b *Block) CommentOut(lines *Block) {
	for text := range strings.Lines(lines.String()) {
		b.lines = append(b.lines, line{comment: strings.TrimSuffix(text, "\n")})
	}
}

// Gap adds an empty line, unless there is one already or nothing is above it.
func (b *Block) Gap() {
	if n := len(b.lines); n > 0 && !b.lines[n-1].isGap() {
		b.lines = append(b.lines, line{})
	}
}

func (l line) isGap() bool { return l.comment == "" && l.words == nil && l.block == nil }

// Line adds a line of words.
func (b *Block) Line(words ...string) { b.lines = append(b.lines, line{words: words}) }

// Block adds words that begin a block, and returns the block. An empty block is written as a line.
func (b *Block) Block(words ...string) *Block {
	inner := new(Block)
	b.lines = append(b.lines, line{words: words, block: inner})
	return inner
}

// Empty reports whether nothing was added.
func (b *Block) Empty() bool { return len(b.lines) == 0 }

// String returns the Caddyfile.
func (b *Block) String() string {
	var out strings.Builder
	b.write(&out, 0)
	return out.String()
}

func (b *Block) write(out *strings.Builder, depth int) {
	lines := b.lines
	for len(lines) > 0 && lines[len(lines)-1].isGap() {
		lines = lines[:len(lines)-1]
	}
	tabs := strings.Repeat("\t", depth)
	for _, l := range lines {
		switch {
		case l.isGap():
			out.WriteByte('\n')
			continue
		case l.words == nil && l.block == nil:
			out.WriteString(tabs + "# " + l.comment + "\n")
			continue
		}
		out.WriteString(tabs)
		for i, word := range l.words {
			if i > 0 {
				out.WriteByte(' ')
			}
			out.WriteString(Token(word))
		}
		if l.block == nil || l.block.Empty() && depth > 0 {
			out.WriteByte('\n')
			continue
		}
		if len(l.words) > 0 {
			out.WriteByte(' ')
		}
		out.WriteString("{\n")
		l.block.write(out, depth+1)
		out.WriteString(tabs + "}\n")
	}
}

// Token returns a word as a Caddyfile has it, in quotes if it needs them.
func Token(word string) string {
	switch {
	case word == "":
		return `""`
	case !strings.ContainsAny(word, "\"`{}#\\<") && !strings.ContainsFunc(word, endsWord):
		return word
	case isPlaceholders(word):
		return word
	case !strings.Contains(word, "`"):
		return "`" + word + "`"
	}
	return `"` + strings.ReplaceAll(word, `"`, `\"`) + `"`
}

// endsWord reports whether Caddy ends a word at a character.
func endsWord(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\ufeff' }

// isPlaceholders reports whether all braces in a word are those of placeholders, such as {env.NAME}.
func isPlaceholders(word string) bool {
	if word == "" || strings.ContainsAny(word, "\"`#\\<") || strings.ContainsFunc(word, endsWord) {
		return false
	}
	for {
		before, rest, open := strings.Cut(word, "{")
		if strings.Contains(before, "}") {
			return false
		}
		if !open {
			return true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || name == "" || strings.Trim(name, "$abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") != "" {
			return false
		}
		word = after
	}
}
