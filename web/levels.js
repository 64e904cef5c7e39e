// The controls of a level: a slider and a number for each part, and a common strength.

import { scaledLevel } from "./pixels.js";

const byId = (id) => document.getElementById(id);

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

export class Levels {
  /** @param {() => void} changed called when the user has changed a level. */
  constructor(changed) {
    this.changed = changed;
    this.axes = [];
    this.inputs = [];
    byId("strength").addEventListener("input", () => this.showStrength());
    byId("strength").addEventListener("change", changed);
  }

  /** Shows the controls for a task's model. */
  show(model) {
    this.axes = model.axes;
    const several = model.axes.length > 1;
    this.inputs = model.axes.map((axis) => this.row(axis));
    byId("levels").replaceChildren(...this.inputs.map(({ label }) => label));
    byId("parts").open = !several;
    byId("parts").classList.toggle("only", !several);
    byId("strength-row").hidden = !several;
    byId("estimate").hidden = !model.estimator;
    this.reset();
  }

  row(axis) {
    const label = Object.assign(document.createElement("label"), { className: "level" });
    const called = Object.assign(document.createElement("span"), { id: `quantity-${axis.name}` });
    called.textContent = axis.unit ? `${capital(axis.quantity)} (${axis.unit})` : capital(axis.quantity);
    const limits = { min: axis.low, max: axis.high };
    const slider = Object.assign(document.createElement("input"), { type: "range", id: `slider-${axis.name}` });
    const number = Object.assign(document.createElement("input"), { type: "number", id: `number-${axis.name}` });
    Object.assign(slider, limits, { step: axis.step });
    Object.assign(number, limits, { step: "any" }); // estimates fall between the steps
    number.setAttribute("aria-labelledby", called.id);
    slider.addEventListener("input", () => (number.value = slider.value));
    slider.addEventListener("change", this.changed);
    number.addEventListener("change", () => {
      slider.value = number.value;
      this.changed();
    });
    label.append(called, slider, number);
    return { label, slider, number };
  }

  set(values) {
    for (const [index, { slider, number }] of this.inputs.entries()) {
      slider.value = values[index];
      number.value = Number(values[index].toPrecision(3));
    }
    byId("strength").value = 1;
    this.showStrength();
  }

  /** Sets the initial levels of the task. */
  reset() {
    this.set(this.axes.map((axis) => axis.level));
  }

  showStrength() {
    byId("strength-value").value = `${Math.round(100 * byId("strength").value)} %`;
  }

  /** Returns {values}, scaled by the strength, or {mistake}, a sentence, if one is not valid. */
  read() {
    const strength = Number(byId("strength").value);
    const values = [];
    for (const [index, axis] of this.axes.entries()) {
      const text = this.inputs[index].number.value;
      const value = Number(text);
      if (text === "" || !(value >= axis.low && value <= axis.high)) {
        byId("parts").open = true;
        return { mistake: `Give a ${axis.quantity} from ${axis.low} to ${axis.high}.` };
      }
      values.push(strength === 1 ? value : scaledLevel(value, strength, axis));
    }
    return { values };
  }
}
