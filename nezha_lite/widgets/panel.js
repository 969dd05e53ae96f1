// Jupyter receives keys before a control does, and moves between cells with the arrow keys, unless
// the focused element itself has this attribute.
export default {
  initialize() {
    const mark = (event) => {
      if (event.target.closest(".nezha-panel"))
        event.target.setAttribute("data-lm-suppress-shortcuts", "true");
    };
    document.addEventListener("focusin", mark);
    return () => document.removeEventListener("focusin", mark);
  },
  render({ el }) {
    el.hidden = true;
  },
};
