// What the annotator sent, kept in IndexedDB until the server has acknowledged it. Nothing leaves it otherwise:
// not a lost connection, not a closed tab, not a refusal (which is shown, with the server's sentence).

import { Offline, Refused, SignedOut, request } from "./api.js";

const STORE = "letters";
const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30000;

function promised(idbRequest) {
  return new Promise((resolve, reject) => {
    idbRequest.onsuccess = () => resolve(idbRequest.result);
    idbRequest.onerror = () => reject(idbRequest.error);
  });
}

function openDatabase() {
  const opening = indexedDB.open("vitrine-outbox", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "sequence", autoIncrement: true });
  return promised(opening);
}

export class Outbox extends EventTarget {
  /** `owner` is study and annotator: another person at the same browser never sends my answers. */
  static async open(owner) {
    const outbox = new Outbox();
    outbox.owner = owner;
    outbox.database = await openDatabase();
    outbox.wait = FIRST_WAIT;
    outbox.isSending = false;
    outbox.trouble = null;
    outbox.letters = [];
    await outbox.#read();
    addEventListener("online", () => outbox.send());
    return outbox;
  }

  #store(mode) {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }

  async #read() {
    const all = await promised(this.#store("readonly").getAll());
    this.letters = all.filter((letter) => letter.owner === this.owner);
    this.dispatchEvent(new Event("change"));
  }

  get waiting() {
    return this.letters.filter((letter) => !letter.refused);
  }

  get refused() {
    return this.letters.filter((letter) => letter.refused);
  }

  /** Slots whose answers are on their way: the server must not hand them out to us again. */
  get slots() {
    return this.letters.map((letter) => letter.body.slot).filter((slot) => slot != null);
  }

  /** Durable once the promise resolves; sending starts by itself. */
  async put(url, body) {
    const letter = { owner: this.owner, url, body, refused: null };
    const transaction = this.database.transaction(STORE, "readwrite", { durability: "strict" });
    const written = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onerror = () => reject(transaction.error);
    });
    letter.sequence = await promised(transaction.objectStore(STORE).add(letter));
    this.letters.push(letter);
    await written;
    this.dispatchEvent(new Event("change"));
    this.send();
  }

  async retryRefused() {
    for (const letter of this.refused) await this.#mark(letter, null);
    return this.send();
  }

  async #mark(letter, refused) {
    letter.refused = refused;
    await promised(this.#store("readwrite").put(letter));
    this.dispatchEvent(new Event("change"));
  }

  async #clear(letter) {
    await promised(this.#store("readwrite").delete(letter.sequence));
    this.letters = this.letters.filter((other) => other !== letter);
  }

  /** Sends in order, one at a time; two tabs take turns. */
  async send() {
    if (this.isSending) return;
    clearTimeout(this.timer);
    this.isSending = true;
    try {
      if (navigator.locks) await navigator.locks.request(`outbox ${this.owner}`, () => this.#sendAll());
      else await this.#sendAll();
    } finally {
      this.isSending = false;
    }
    if (this.waiting.length && !this.trouble) this.send();
  }

  async #sendAll() {
    await this.#read();
    if (!this.waiting.length) this.#settle(null); // another tab may have sent them
    for (let letter = this.waiting[0]; letter; letter = this.waiting[0]) {
      if (!(await this.#sendOne(letter))) return;
    }
  }

  async #sendOne(letter) {
    try {
      const reply = await request(letter.url, { body: letter.body });
      await this.#clear(letter);
      this.#settle(null);
      this.dispatchEvent(new CustomEvent("acknowledged", { detail: { letter, reply } }));
      return true;
    } catch (error) {
      return this.#fail(letter, error);
    }
  }

  async #fail(letter, error) {
    if (error instanceof Refused) {
      await this.#mark(letter, error.message);
      return true;
    }
    if (!(error instanceof Offline) && !(error instanceof SignedOut)) throw error;
    this.reason = error.message;
    this.#settle(error instanceof SignedOut ? "signedout" : error.status ? "server" : "offline");
    this.timer = setTimeout(() => this.send(), this.wait * (0.75 + Math.random() / 2));
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    return false;
  }

  #settle(trouble) {
    if (!trouble) this.wait = FIRST_WAIT;
    this.trouble = trouble;
    this.dispatchEvent(new Event("change"));
  }
}
