package guard

import (
	"strings"
	"testing"
)

// apart are questions that read alike and ask for something else.
const apart = `
What is 2 ** 3? | What is 2 * 3?
What is 10 * 5? | What is 10 – 5?
What is 10 : 5? | What is 10 – 5?
What is n! for large n | what is n for large n
What is 5 !? | What is 5 ?
How long is 5' | How long is 5"
What is 5 MW in kW | What is 5 mW in kW
How much is 5 Mb? | How much is 5 MB?
What is $5m | What is $5 meters
5 pounds | 5 lb
two million million | three million
issue #5 | issue 5
5- | 5
How many people live in Japan? | How do people live in Japan?
How much is the rent in Paris? | How is the rent in Paris?
Can dogs eat chocolate? | Do dogs eat chocolate?
What can dogs eat? | What do dogs eat?
Why are dogs attacked? | Why do dogs attack?
Is the model trained? | Is the model training?
What is training? | What is a train?
What is engineering? | What is an engineer?
What is a plane? | What is a plan?
What is time? | What is the time?
What is the matter? | What is matter?
Tell me when the train is late | When is the train late?
What is new in Rome? | What is the news in Rome?
How are glasses made? | How is glass made?
Why do few people like it? | Why do a few people like it?
Why do the few rule? | Why do few rule?
What is the mean of the distribution? | What is the distribution?
Where do you live? | Where do I live?
Do you have feelings? | Do I have feelings?
Can you fly? | Can I fly?
Would you kill a dog? | Can you kill a dog?
Do birds fly? | Which birds fly?
Is blood red? | What is blood red?
What do birds eat in winter? | Which birds eat in winter?
Tell me what dogs eat | Which dogs eat
Am I a robot? | What is a robot?
How do I look? | How can I look?
Explain how large trees are | How are large trees?
Give me the lyrics of Hello | Explain the lyrics of Hello
What are the lyrics of Hello | Explain the lyrics of Hello
Explain your answer | What is your answer
Give me a joke | Give me jokes
Tell me a story | Describe a story
Write exactly five words | Write five words
How big is Turkey? | How big is a turkey?
How do I polish? | How do I Polish?
How much does Apple cost | How much does an apple cost
What is a mg? | What is a Mg?
What did World War I change | What did World War change
Who was Elizabeth I? | Who was Elizabeth?
What is vitamin a deficiency | What is vitamin deficiency
What is a human being | What is a human
How do I can tomatoes | How do tomatoes
Is he kind | Is he
Translate to French: I am Anna | Translate to French: we are Anna
Translate I am | translate it is
Translate into French: go into it | Translate to French: go to it
Say hi | Say
hello world in C | world in C
Translate: thank you | Translate:
Please me | me
man-eating shark | man eating shark
the kings' son | the king's son
He'd go | He'll go
Let's eat, grandma | Let's eat grandma
The dog is dead? | The dog is dead.
SELECT * FROM t | SELECT FROM t
What does *p mean in C | What does p mean in C
What is A* search | What is A search
What is _init | What is init
MAX_INT | max_int
rm -rf * | rm -rf
cd .. | cd .
What does ; do in C | What does : do in C
What does ?? mean in C# | What does ? mean in C#
x:y | x;y
what is B- | what is B
Don't explain recursion | Explain recursion
Tell me why I can't sleep | Why can I sleep
Was fressen Hunde? | Fressen Hunde?
Kann ein Hund fliegen? | Ist ein Hund fliegen?
Den Hund beißt der Mann | Der Hund beißt den Mann
Wie heißen Sie? | Wie heißen sie?
Que peut manger un chien ? | Que mange un chien ?
¿Puedo comer uvas? | ¿Puede comer uvas?
`

func TestOutlineTellsApart(t *testing.T) {
	for line := range strings.Lines(strings.TrimSpace(apart)) {
		a, b, ok := strings.Cut(strings.TrimSpace(line), " | ")
		if !ok {
			t.Fatalf("no pair: %q", line)
		}
		if Outline(a) == Outline(b) {
			t.Errorf("%q and %q are taken for the same: %q", a, b, Outline(a))
		}
	}
}

// alike are questions that ask for the same.
const alike = `
What is recursion? | Explain recursion to me, please
Why is the sky blue? | Could you please explain why the sky is blue?
What is a deadlock? | tell me what a deadlock is
How does HTTPS work? | Explain how https works.
How do I undo the last commit? | how to undo last commit
How do I undo the last commit? | What's the way to undo the last commit?
What does 404 mean? | what is the meaning of 404
What is the square root of 144? | Tell me the square root of 144, please.
What payment methods do you accept? | Can you tell me what payment methods you accept?
Explain the difference between TCP and UDP | What's the difference between TCP and UDP?
Write a regex that matches an address | Please write me a regex to match an address.
Convert 10 miles into km | convert 10 mi to km
How long does it take? | Hi there, how long does it take? Thank you!
How much time does it take to learn? | How long does it take to learn?
How much does a passport cost? | What does a passport cost?
What time is it? | Which time is it?
Why can't it wait? | why cant it wait
What is **bold**? | what is bold
`

func TestOutlinePutsPlainly(t *testing.T) {
	for line := range strings.Lines(strings.TrimSpace(alike)) {
		a, b, ok := strings.Cut(strings.TrimSpace(line), " | ")
		if !ok {
			t.Fatalf("no pair: %q", line)
		}
		if Outline(a) != Outline(b) {
			t.Errorf("%q and %q are taken for different: %q, %q", a, b, Outline(a), Outline(b))
		}
	}
}
