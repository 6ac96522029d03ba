// The player's states and the moves between them; a move that is not in the table is a bug and says so.

const ENDS = ["rest", "break", "empty", "paused", "closed", "signedout", "waiting", "stuck", "finished"];

const MOVES = {
  loading: ["showing", "left", ...ENDS],
  showing: ["showing", "feedback", "left", ...ENDS],
  feedback: ["showing", "finished", "waiting", "stuck", "signedout"],
  ...Object.fromEntries(ENDS.map((end) => [end, ["showing", "left", ...ENDS]])),
  finished: [],
  left: [],
};

export class Machine {
  constructor(onEnter) {
    this.state = "loading";
    this.onEnter = onEnter;
  }

  is(...states) {
    return states.includes(this.state);
  }

  go(state, detail) {
    if (state === this.state && state !== "showing") return;
    if (!MOVES[this.state].includes(state)) throw new Error(`The player cannot go from ${this.state} to ${state}.`);
    this.state = state;
    this.onEnter(state, detail);
  }
}
