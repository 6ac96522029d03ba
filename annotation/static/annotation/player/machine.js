// The player's states and the moves between them; a move that is not in the table is a bug and says so.

const MOVES = {
  loading: ["showing", "rest", "empty", "paused", "closed", "signedout", "waiting", "finished"],
  showing: ["showing", "loading", "feedback", "rest", "empty", "paused", "closed", "signedout", "waiting", "finished"],
  feedback: ["showing", "finished", "signedout"],
  waiting: ["loading", "showing", "empty", "paused", "closed", "signedout", "rest"],
  rest: ["loading", "showing", "signedout", "paused", "closed", "empty", "waiting"],
  empty: ["loading", "showing", "signedout"],
  paused: ["loading", "showing", "closed", "empty", "signedout", "waiting"],
  closed: ["showing", "loading"],
  signedout: ["loading", "showing"],
  finished: [],
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
